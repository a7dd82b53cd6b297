variable "name" { type = string }
variable "size" { type = any }
variable "multi_az" { type = bool }
variable "subnets" { type = list(string) }
variable "security_group" { type = string }
variable "kms_key_arn" { type = string }
variable "is_production" { type = bool }

resource "random_password" "this" {
  length  = 40
  special = false # it stands in a URL
}

# One role a part; the task 'roles' makes them. Nothing else uses the administrator's.
locals {
  roles = ["owner", "pipelines", "api", "mlflow"]
}

resource "random_password" "role" {
  for_each = toset(local.roles)
  length   = 40
  special  = false
}

resource "aws_db_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.subnets
}

resource "aws_db_parameter_group" "this" {
  name   = "${var.name}-pg17"
  family = "postgres17"
  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }
  parameter {
    name  = "log_min_duration_statement"
    value = "1000"
  }
  parameter {
    name  = "log_statement"
    value = "ddl"
  }
}

resource "aws_iam_role" "metrics" {
  name = "${var.name}-database-metrics"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "monitoring.rds.amazonaws.com" } }]
  })
}

resource "aws_iam_role_policy_attachment" "metrics" {
  role       = aws_iam_role.metrics.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole"
}

resource "aws_db_instance" "this" {
  identifier                          = var.name
  engine                              = "postgres"
  engine_version                      = "17"
  instance_class                      = var.size.database_class
  allocated_storage                   = var.size.database_gb
  max_allocated_storage               = var.size.database_gb_most
  storage_type                        = "gp3"
  storage_encrypted                   = true
  kms_key_id                          = var.kms_key_arn
  db_name                             = "fti"
  username                            = "fti"
  password                            = random_password.this.result
  iam_database_authentication_enabled = true
  multi_az                            = var.multi_az
  db_subnet_group_name                = aws_db_subnet_group.this.name
  vpc_security_group_ids              = [var.security_group]
  parameter_group_name                = aws_db_parameter_group.this.name
  publicly_accessible                 = false
  backup_retention_period             = 14
  backup_window                       = "01:00-02:00"
  maintenance_window                  = "Mon:03:00-Mon:04:00"
  copy_tags_to_snapshot               = true
  deletion_protection                 = true
  skip_final_snapshot                 = !var.is_production
  final_snapshot_identifier           = "${var.name}-last"
  auto_minor_version_upgrade          = true
  performance_insights_enabled        = true
  performance_insights_kms_key_id     = var.kms_key_arn
  monitoring_interval                 = 60
  monitoring_role_arn                 = aws_iam_role.metrics.arn
  enabled_cloudwatch_logs_exports     = ["postgresql", "upgrade"]
}

output "identifier" { value = aws_db_instance.this.identifier }
output "url" {
  sensitive = true
  value     = "postgresql://fti:${random_password.this.result}@${aws_db_instance.this.endpoint}/fti?sslmode=require"
}
output "role_urls" {
  sensitive = true
  value = {
    for role in local.roles : role =>
    "postgresql://fti_${role}:${random_password.role[role].result}@${aws_db_instance.this.endpoint}/${role == "mlflow" ? "mlflow" : "fti"}?sslmode=require"
  }
}
output "role_passwords" {
  sensitive = true
  value     = { for role in local.roles : role => random_password.role[role].result }
}
