module "sizing" {
  source      = "./modules/sizing"
  environment = var.environment
  size        = var.size
  multi_az    = var.multi_az
}

locals {
  name   = module.sizing.name
  size   = module.sizing.size
  images = ["ml-inference", "fti-pipelines", "fti-mlflow"]
}

data "aws_caller_identity" "us" {}

# One key for everything at rest, turned every year.
resource "aws_kms_key" "this" {
  description             = local.name
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "Account"
        Effect    = "Allow"
        Principal = { AWS = "arn:aws:iam::${data.aws_caller_identity.us.account_id}:root" }
        Action    = "kms:*"
        Resource  = "*"
      },
      {
        Sid       = "Logs"
        Effect    = "Allow"
        Principal = { Service = ["logs.${var.region}.amazonaws.com", "cloudwatch.amazonaws.com"] }
        Action    = ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey*", "kms:DescribeKey"]
        Resource  = "*"
      },
    ]
  })
}

resource "aws_cloudwatch_log_group" "tasks" {
  name              = "/${local.name}/tasks"
  retention_in_days = local.size.log_days
  kms_key_id        = aws_kms_key.this.arn
}

module "network" {
  source        = "./modules/network"
  name          = local.name
  zones         = module.sizing.zones
  nat_gateways  = module.sizing.nat_gateways
  allowed_cidrs = var.allowed_cidrs
  log_days      = local.size.log_days
  kms_key_arn   = aws_kms_key.this.arn
}

module "database" {
  source         = "./modules/rds-postgres"
  name           = local.name
  size           = local.size
  multi_az       = var.multi_az
  subnets        = module.network.private_subnets
  security_group = module.network.stores_group
  kms_key_arn    = aws_kms_key.this.arn
  is_production  = var.environment == "prod"
}

module "cache" {
  source         = "./modules/elasticache-redis"
  name           = local.name
  size           = local.size
  nodes          = module.sizing.cache_nodes
  subnets        = module.network.private_subnets
  security_group = module.network.stores_group
  kms_key_arn    = aws_kms_key.this.arn
}

module "batch_bucket" {
  source      = "./modules/s3"
  name        = local.name
  purpose     = "batch"
  kms_key_arn = aws_kms_key.this.arn
  expire_days = 400
}

# Copies of the artifacts that are deployed: a new API task needs no MLflow.
module "artifact_bucket" {
  source      = "./modules/s3"
  name        = local.name
  purpose     = "artifacts"
  kms_key_arn = aws_kms_key.this.arn
}

module "registry" {
  source      = "./modules/ecr"
  names       = local.images
  kms_key_arn = aws_kms_key.this.arn
}

module "secrets" {
  source      = "./modules/secrets"
  name        = local.name
  kms_key_arn = aws_kms_key.this.arn
  values = {
    database-url-admin          = module.database.url
    database-url-owner          = module.database.role_urls["owner"]
    database-url-pipelines      = module.database.role_urls["pipelines"]
    database-url-api            = module.database.role_urls["api"]
    database-owner-password     = module.database.role_passwords["owner"]
    database-pipelines-password = module.database.role_passwords["pipelines"]
    database-api-password       = module.database.role_passwords["api"]
    database-mlflow-password    = module.database.role_passwords["mlflow"]
    redis-url                   = module.cache.url
    api-keys                    = var.api_keys
    mlflow-backend-store-uri    = replace("${module.database.role_urls["mlflow"]}&options=-csearch_path%3Dmlflow", "postgresql://", "postgresql+psycopg://")
  }
}

module "iam" {
  source           = "./modules/iam"
  name             = local.name
  secret_arns      = values(module.secrets.arns)
  repository_arns  = module.registry.arns
  log_group_arn    = aws_cloudwatch_log_group.tasks.arn
  kms_key_arn      = aws_kms_key.this.arn
  batch_bucket_arn = module.batch_bucket.arn

  artifact_bucket_arn = module.artifact_bucket.arn
}

module "ecs" {
  source          = "./modules/ecs"
  name            = local.name
  region          = var.region
  size            = local.size
  images          = { for name in local.images : name => "${module.registry.urls[name]}:${var.image_tag}" }
  vpc_id          = module.network.vpc_id
  public_subnets  = module.network.public_subnets
  private_subnets = module.network.private_subnets
  balancer_group  = module.network.balancer_group
  tasks_group     = module.network.tasks_group
  roles           = { execution = module.iam.execution, plain = module.iam.plain, batch = module.iam.batch }
  secret_arns     = module.secrets.arns
  certificate_arn = var.certificate_arn
  log_bucket      = var.balancer_log_bucket
  batch_bucket    = module.batch_bucket.bucket
  artifact_bucket = module.artifact_bucket.bucket
  log_group       = aws_cloudwatch_log_group.tasks.name
  kms_key_arn     = aws_kms_key.this.arn
}

module "alarms" {
  source       = "./modules/alarms"
  name         = local.name
  email        = var.alarm_email
  kms_key_arn  = aws_kms_key.this.arn
  database     = module.database.identifier
  cache_nodes  = module.cache.nodes
  balancer     = module.ecs.balancer
  target_group = module.ecs.target_group
}

module "budget" {
  source      = "./modules/budget"
  name        = local.name
  monthly_usd = var.monthly_budget_usd
  email       = var.alarm_email
}
