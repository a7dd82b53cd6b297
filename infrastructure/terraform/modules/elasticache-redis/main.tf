variable "name" { type = string }
variable "size" { type = any }
variable "nodes" { type = number }
variable "subnets" { type = list(string) }
variable "security_group" { type = string }
variable "kms_key_arn" { type = string }

resource "random_password" "this" {
  length  = 40
  special = false
}

resource "aws_elasticache_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.subnets
}

resource "aws_elasticache_parameter_group" "this" {
  name   = "${var.name}-valkey8"
  family = "valkey8"
  parameter {
    name  = "maxmemory-policy"
    value = "noeviction" # a feature must not vanish silently
  }
}

resource "aws_elasticache_replication_group" "this" {
  replication_group_id       = var.name
  description                = "Online feature store"
  engine                     = "valkey"
  engine_version             = "8.1"
  node_type                  = var.size.cache_class
  num_cache_clusters         = var.nodes
  automatic_failover_enabled = var.nodes > 1
  multi_az_enabled           = var.nodes > 1
  parameter_group_name       = aws_elasticache_parameter_group.this.name
  subnet_group_name          = aws_elasticache_subnet_group.this.name
  security_group_ids         = [var.security_group]
  at_rest_encryption_enabled = true
  kms_key_id                 = var.kms_key_arn
  transit_encryption_enabled = true
  transit_encryption_mode    = "required"
  auth_token                 = random_password.this.result
  snapshot_retention_limit   = 7
  auto_minor_version_upgrade = true
}

output "nodes" {
  description = "AWS names the clusters of one node each of which a replication group consists."
  value       = [for n in range(var.nodes) : format("%s-%03d", var.name, n + 1)]
}
output "url" {
  sensitive = true
  value     = "rediss://:${random_password.this.result}@${aws_elasticache_replication_group.this.primary_endpoint_address}:6379"
}
