# What Prometheus cannot see: AWS's own side of things.
variable "name" { type = string }
variable "email" { type = string }
variable "kms_key_arn" { type = string }
variable "database" { type = string }
variable "cache" { type = string }
variable "balancer" { type = string }

resource "aws_sns_topic" "this" {
  name              = var.name
  kms_master_key_id = var.kms_key_arn
}

resource "aws_sns_topic_subscription" "email" {
  topic_arn = aws_sns_topic.this.arn
  protocol  = "email"
  endpoint  = var.email
}

locals {
  alarms = {
    database-cpu   = { namespace = "AWS/RDS", metric = "CPUUtilization", above = 80, dimensions = { DBInstanceIdentifier = var.database } }
    cache-memory   = { namespace = "AWS/ElastiCache", metric = "DatabaseMemoryUsagePercentage", above = 75, dimensions = { ReplicationGroupId = var.cache } }
    cache-cpu      = { namespace = "AWS/ElastiCache", metric = "EngineCPUUtilization", above = 80, dimensions = { ReplicationGroupId = var.cache } }
    balancer-5xx   = { namespace = "AWS/ApplicationELB", metric = "HTTPCode_ELB_5XX_Count", above = 10, dimensions = { LoadBalancer = var.balancer } }
    targets-sick   = { namespace = "AWS/ApplicationELB", metric = "UnHealthyHostCount", above = 0, dimensions = { LoadBalancer = var.balancer } }
  }
}

resource "aws_cloudwatch_metric_alarm" "above" {
  for_each            = local.alarms
  alarm_name          = "${var.name}-${each.key}"
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = "Maximum"
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
