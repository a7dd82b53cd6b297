variable "name" { type = string }
variable "secret_arns" { type = list(string) }
variable "repository_arns" { type = list(string) }
variable "log_group_arn" { type = string }
variable "kms_key_arn" { type = string }
variable "batch_bucket_arn" { type = string }
variable "artifact_bucket_arn" { type = string }

locals {
  assume = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ecs-tasks.amazonaws.com" } }]
  })
}

# What ECS needs to start a task: its image, its secrets, its log.
resource "aws_iam_role" "execution" {
  name               = "${var.name}-execution"
  assume_role_policy = local.assume
}

data "aws_iam_policy_document" "execution" {
  statement {
    actions   = ["ecr:GetAuthorizationToken"] # has no narrower resource
    resources = ["*"]
  }
  statement {
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = var.repository_arns
  }
  statement {
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${var.log_group_arn}:*"]
  }
  statement {
    actions   = ["secretsmanager:GetSecretValue"]
    resources = var.secret_arns
  }
  statement {
    actions   = ["kms:Decrypt"]
    resources = [var.kms_key_arn]
  }
}

resource "aws_iam_role_policy" "execution" {
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.execution.json
}

# The API reads the copies of deployed artifacts; what deploys writes them.
resource "aws_iam_role" "plain" {
  name               = "${var.name}-plain"
  assume_role_policy = local.assume
}

# Batches write into their bucket, and only there.
resource "aws_iam_role" "batch" {
  name               = "${var.name}-batch"
  assume_role_policy = local.assume
}

data "aws_iam_policy_document" "batch" {
  statement {
    actions   = ["s3:ListBucket"]
    resources = [var.batch_bucket_arn]
  }
  statement {
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    resources = ["${var.batch_bucket_arn}/*"]
  }
  statement {
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.kms_key_arn]
  }
}

resource "aws_iam_role_policy" "batch" {
  role   = aws_iam_role.batch.id
  policy = data.aws_iam_policy_document.batch.json
}

data "aws_iam_policy_document" "artifacts" {
  statement {
    actions   = ["s3:ListBucket"]
    resources = [var.artifact_bucket_arn]
  }
  statement {
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    resources = ["${var.artifact_bucket_arn}/*"]
  }
  statement {
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.kms_key_arn]
  }
}

resource "aws_iam_role_policy" "artifacts" {
  for_each = { plain = aws_iam_role.plain.id, batch = aws_iam_role.batch.id }
  role     = each.value
  policy   = data.aws_iam_policy_document.artifacts.json
}

output "execution" { value = aws_iam_role.execution.arn }
output "plain" { value = aws_iam_role.plain.arn }
output "batch" { value = aws_iam_role.batch.arn }
