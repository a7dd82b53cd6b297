variable "names" { type = list(string) }
variable "kms_key_arn" { type = string }

resource "aws_ecr_repository" "this" {
  for_each             = toset(var.names)
  name                 = each.value
  image_tag_mutability = "IMMUTABLE"
  image_scanning_configuration { scan_on_push = true }
  encryption_configuration {
    encryption_type = "KMS"
    kms_key         = var.kms_key_arn
  }
}

resource "aws_ecr_lifecycle_policy" "this" {
  for_each   = aws_ecr_repository.this
  repository = each.value.name
  policy = jsonencode({
    rules = [{
      rulePriority = 1
      description  = "The newest thirty"
      selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = 30 }
      action       = { type = "expire" }
    }]
  })
}

output "urls" { value = { for name, each in aws_ecr_repository.this : name => each.repository_url } }
output "arns" { value = [for each in aws_ecr_repository.this : each.arn] }
