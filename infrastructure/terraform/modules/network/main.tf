variable "name" { type = string }
variable "zones" { type = number }
variable "nat_gateways" { type = number }
variable "allowed_cidrs" { type = list(string) }
variable "log_days" { type = number }
variable "kms_key_arn" { type = string }

data "aws_availability_zones" "here" { state = "available" }
data "aws_region" "here" {}

resource "aws_vpc" "this" {
  cidr_block           = "10.20.0.0/16"
  enable_dns_hostnames = true
  tags                 = { Name = var.name }
}

# Nobody uses the default group, and it lets nobody through.
resource "aws_default_security_group" "none" { vpc_id = aws_vpc.this.id }

resource "aws_subnet" "public" {
  count             = var.zones
  vpc_id            = aws_vpc.this.id
  availability_zone = data.aws_availability_zones.here.names[count.index]
  cidr_block        = cidrsubnet(aws_vpc.this.cidr_block, 8, count.index)
  tags              = { Name = "${var.name}-public-${count.index}" }
}

resource "aws_subnet" "private" {
  count             = var.zones
  vpc_id            = aws_vpc.this.id
  availability_zone = data.aws_availability_zones.here.names[count.index]
  cidr_block        = cidrsubnet(aws_vpc.this.cidr_block, 8, 10 + count.index)
  tags              = { Name = "${var.name}-private-${count.index}" }
}

resource "aws_internet_gateway" "this" { vpc_id = aws_vpc.this.id }

resource "aws_eip" "nat" {
  count  = var.nat_gateways
  domain = "vpc"
}

resource "aws_nat_gateway" "this" {
  count         = var.nat_gateways
  subnet_id     = aws_subnet.public[count.index].id
  allocation_id = aws_eip.nat[count.index].id
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.this.id
  route {
    cidr_block = "0.0.0.0/0"
    gateway_id = aws_internet_gateway.this.id
  }
}

resource "aws_route_table_association" "public" {
  count          = var.zones
  subnet_id      = aws_subnet.public[count.index].id
  route_table_id = aws_route_table.public.id
}

resource "aws_route_table" "private" {
  count  = var.zones
  vpc_id = aws_vpc.this.id
  route {
    cidr_block     = "0.0.0.0/0"
    nat_gateway_id = aws_nat_gateway.this[min(count.index, var.nat_gateways - 1)].id
  }
}

resource "aws_route_table_association" "private" {
  count          = var.zones
  subnet_id      = aws_subnet.private[count.index].id
  route_table_id = aws_route_table.private[count.index].id
}

# Artifacts and image layers do not pay for the NAT gateway.
resource "aws_vpc_endpoint" "s3" {
  vpc_id          = aws_vpc.this.id
  service_name    = "com.amazonaws.${data.aws_region.here.region}.s3"
  route_table_ids = aws_route_table.private[*].id
}

resource "aws_cloudwatch_log_group" "flows" {
  name              = "/${var.name}/flows"
  retention_in_days = max(var.log_days, 365)
  kms_key_id        = var.kms_key_arn
}

resource "aws_iam_role" "flows" {
  name = "${var.name}-flows"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "vpc-flow-logs.amazonaws.com" } }]
  })
}

resource "aws_iam_role_policy" "flows" {
  role = aws_iam_role.flows.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource = "${aws_cloudwatch_log_group.flows.arn}:*"
    }]
  })
}

resource "aws_flow_log" "this" {
  vpc_id          = aws_vpc.this.id
  traffic_type    = "REJECT"
  log_destination = aws_cloudwatch_log_group.flows.arn
  iam_role_arn    = aws_iam_role.flows.arn
}

resource "aws_security_group" "balancer" {
  name        = "${var.name}-balancer"
  description = "Callers reach the load balancer by HTTPS"
  vpc_id      = aws_vpc.this.id
}

resource "aws_security_group" "tasks" {
  name        = "${var.name}-tasks"
  description = "API and workers"
  vpc_id      = aws_vpc.this.id
}

resource "aws_security_group" "stores" {
  name        = "${var.name}-stores"
  description = "PostgreSQL and Redis, reached by tasks alone"
  vpc_id      = aws_vpc.this.id
}

resource "aws_vpc_security_group_ingress_rule" "callers" {
  for_each          = toset(var.allowed_cidrs)
  description       = "HTTPS from callers"
  security_group_id = aws_security_group.balancer.id
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_egress_rule" "https" {
  description       = "AWS services"
  security_group_id = aws_security_group.tasks.id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

# Who may talk to whom within the network: each way is opened at both ends.
locals {
  groups = {
    balancer = aws_security_group.balancer.id
    tasks    = aws_security_group.tasks.id
    stores   = aws_security_group.stores.id
  }
  ways = {
    api      = { from = "balancer", to = "tasks", port = 8000 }
    mlflow   = { from = "tasks", to = "tasks", port = 5000 }
    postgres = { from = "tasks", to = "stores", port = 5432 }
    redis    = { from = "tasks", to = "stores", port = 6379 }
  }
}

resource "aws_vpc_security_group_egress_rule" "within" {
  for_each                     = local.ways
  description                  = "${each.key}: to ${each.value.to}"
  security_group_id            = local.groups[each.value.from]
  referenced_security_group_id = local.groups[each.value.to]
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
}

resource "aws_vpc_security_group_ingress_rule" "within" {
  for_each                     = local.ways
  description                  = "${each.key}: from ${each.value.from}"
  security_group_id            = local.groups[each.value.to]
  referenced_security_group_id = local.groups[each.value.from]
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
}

output "vpc_id" { value = aws_vpc.this.id }
output "public_subnets" { value = aws_subnet.public[*].id }
output "private_subnets" { value = aws_subnet.private[*].id }
output "balancer_group" { value = aws_security_group.balancer.id }
output "tasks_group" { value = aws_security_group.tasks.id }
output "stores_group" { value = aws_security_group.stores.id }
