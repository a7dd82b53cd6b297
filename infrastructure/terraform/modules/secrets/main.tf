variable "name" { type = string }
variable "kms_key_arn" { type = string }
variable "values" {
  description = "Name to value; the names are those that kubernetes/overlays/prod/secrets.yaml reads."
  type        = map(string)
  sensitive   = true
}

resource "aws_secretsmanager_secret" "this" {
  for_each                = toset(nonsensitive(keys(var.values)))
  name                    = "${var.name}/${each.value}"
  kms_key_id              = var.kms_key_arn
  recovery_window_in_days = 7
}

resource "aws_secretsmanager_secret_version" "this" {
  for_each      = aws_secretsmanager_secret.this
  secret_id     = each.value.id
  secret_string = var.values[each.key]
}

output "arns" { value = { for name, each in aws_secretsmanager_secret.this : name => each.arn } }
