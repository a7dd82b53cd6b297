# Names, tags and sizes: no provider, so that `terraform test` needs no account.
terraform {
  required_version = ">= 1.9"
}

variable "environment" { type = string }

variable "size" {
  type = string
  validation {
    condition     = contains(["small", "large"], var.size)
    error_message = "small or large."
  }
}

variable "multi_az" { type = bool }

locals {
  sizes = {
    small = {
      api_tasks = 2, api_tasks_most = 4, api_cpu = 512, api_memory = 1024
      worker_cpu      = 256, worker_memory = 1024
      database_class  = "db.t4g.medium", database_gb = 50, database_gb_most = 200
      cache_class     = "cache.t4g.small", log_days = 14
    }
    large = {
      api_tasks = 3, api_tasks_most = 12, api_cpu = 1024, api_memory = 2048
      worker_cpu      = 1024, worker_memory = 4096
      database_class  = "db.r7g.large", database_gb = 500, database_gb_most = 2000
      cache_class     = "cache.r7g.large", log_days = 30
    }
  }
}

output "name" { value = "fti-${var.environment}" }
output "tags" {
  value = { project = "fti", environment = var.environment, managed_by = "terraform" }
}
output "size" { value = local.sizes[var.size] }
output "zones" { value = 2 } # a subnet group and a load balancer need two
output "nat_gateways" { value = var.multi_az ? 2 : 1 }
output "cache_nodes" { value = var.multi_az ? 2 : 1 }
