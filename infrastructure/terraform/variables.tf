variable "region" {
  type    = string
  default = "eu-central-1"
}

variable "environment" {
  description = "Part of every name."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,9}$", var.environment))
    error_message = "Two to ten small letters and digits, such as dev or prod."
  }
}

variable "size" {
  description = "small: at most about 400 USD a month; large: ten million predictions a day."
  type        = string
  default     = "small"
}

variable "multi_az" {
  description = "A second PostgreSQL and Redis in another zone, and a NAT gateway in each."
  type        = bool
  default     = false
}

variable "image_tag" {
  type    = string
  default = "v1"
}

variable "certificate_arn" {
  description = "ACM certificate of the load balancer's host name."
  type        = string
}

variable "allowed_cidrs" {
  description = "Who may call the API."
  type        = list(string)
}

variable "api_keys" {
  description = "JSON, as `python -m serving new-key` prints the entries: hashes, no keys."
  type        = string
  sensitive   = true
}

variable "alarm_email" { type = string }

variable "monthly_budget_usd" {
  type    = number
  default = 400
}

variable "balancer_log_bucket" {
  description = "An existing bucket that the load balancer may write its access logs to."
  type        = string
}
