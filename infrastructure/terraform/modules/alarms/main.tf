# What Prometheus cannot see: AWS's own side of things.
variable "name" { type = string }
variable "email" { type = string }
variable "kms_key_arn" { type = string }
variable "database" { type = string }
variable "cache_nodes" { type = list(string) }
variable "balancer" { type = string }
variable "target_group" { type = string }

resource "aws_sns_topic" "this" {
  name              = var.name
  kms_master_key_id = var.kms_key_arn
}

resource "aws_sns_topic_subscription" "email" {
  topic_arn = aws_sns_topic.this.arn
  protocol  = "email"
  endpoint  = var.email
}

# Metrics have values only under the dimensions they are published with: those of a cache node by
# the node's own cluster, sick targets by target group and balancer together.
locals {
  balancer = { LoadBalancer = var.balancer }
  alarms = merge(
    {
      database-cpu = { namespace = "AWS/RDS", metric = "CPUUtilization", statistic = "Average", above = 80, dimensions = { DBInstanceIdentifier = var.database } }
      # A count: its maximum is always 1.
      balancer-5xx = { namespace = "AWS/ApplicationELB", metric = "HTTPCode_ELB_5XX_Count", statistic = "Sum", above = 10, dimensions = local.balancer }
      targets-sick = { namespace = "AWS/ApplicationELB", metric = "UnHealthyHostCount", statistic = "Maximum", above = 0, dimensions = merge(local.balancer, { TargetGroup = var.target_group }) }
    },
    { for node in var.cache_nodes : "${node}-memory" => { namespace = "AWS/ElastiCache", metric = "DatabaseMemoryUsagePercentage", statistic = "Maximum", above = 75, dimensions = { CacheClusterId = node } } },
    { for node in var.cache_nodes : "${node}-cpu" => { namespace = "AWS/ElastiCache", metric = "EngineCPUUtilization", statistic = "Average", above = 80, dimensions = { CacheClusterId = node } } },
  )
}

resource "aws_cloudwatch_metric_alarm" "above" {
  for_each            = local.alarms
  alarm_name          = "${var.name}-${each.key}"
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.above
  period              = 60
  evaluation_periods  = 5
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.this.arn]
  ok_actions          = [aws_sns_topic.this.arn]
}

resource "aws_cloudwatch_metric_alarm" "database_space" {
  alarm_name          = "${var.name}-database-space"
  namespace           = "AWS/RDS"
  metric_name         = "FreeStorageSpace"
  dimensions          = { DBInstanceIdentifier = var.database }
  statistic           = "Minimum"
  comparison_operator = "LessThanThreshold"
  threshold           = 10 * 1024 * 1024 * 1024
  period              = 300
  evaluation_periods  = 2
  alarm_actions       = [aws_sns_topic.this.arn]
}
