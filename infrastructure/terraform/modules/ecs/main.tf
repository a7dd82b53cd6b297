# Fargate: the API behind a load balancer, MLflow, stream worker and monitoring beside it, and the
# feature and batch pipelines on a schedule.
variable "name" { type = string }
variable "region" { type = string }
variable "size" { type = any }
variable "images" { type = map(string) }
variable "vpc_id" { type = string }
variable "public_subnets" { type = list(string) }
variable "private_subnets" { type = list(string) }
variable "balancer_group" { type = string }
variable "tasks_group" { type = string }
variable "roles" { type = map(string) }
variable "secret_arns" { type = map(string) }
variable "certificate_arn" { type = string }
variable "log_bucket" { type = string }
variable "batch_bucket" { type = string }
variable "artifact_bucket" { type = string }
variable "log_group" { type = string }
variable "kms_key_arn" { type = string }

locals {
  mlflow_url = "http://mlflow.${var.name}.internal:5000"
  environment = [
    { name = "MODEL_NAME", value = "income-predictor" },
    { name = "MLFLOW_TRACKING_URI", value = local.mlflow_url },
    { name = "FTI_VAR_DIR", value = "/var/lib/fti" },
    { name = "AWS_REGION", value = var.region },
    { name = "FTI_DEPLOYMENT__ARTIFACT_MIRROR", value = "s3://${var.artifact_bucket}/models" },
  ]
  redis = [{ name = "REDIS_URL", valueFrom = var.secret_arns["redis-url"] }]
  database = {
    for role in ["admin", "owner", "pipelines", "api"] :
    role => [{ name = "DATABASE_URL", valueFrom = var.secret_arns["database-url-${role}"] }]
  }
  stores = concat(local.database["pipelines"], local.redis)
  tasks = {
    api = {
      image       = "ml-inference", role = "plain", cpu = var.size.api_cpu, memory = var.size.api_memory, port = 8000
      command     = ["--host", "0.0.0.0", "--port", "8000", "--exact-port"]
      environment = local.environment
      secrets     = concat(local.database["api"], local.redis, [{ name = "FTI_DEPLOYMENT__API__KEYS", valueFrom = var.secret_arns["api-keys"] }])
    }
    mlflow = {
      image       = "fti-mlflow", role = "plain", cpu = 512, memory = 2048, port = 5000
      command     = ["-m", "infrastructure.servers.mlflow_server", "--host", "0.0.0.0", "--port", "5000", "--artifacts", "/var/lib/fti/mlflow"]
      environment = [{ name = "MLFLOW_SERVER_ALLOWED_HOSTS", value = "mlflow.${var.name}.internal:5000,localhost:*,127.0.0.1:*" }]
      secrets     = [{ name = "MLFLOW_BACKEND_STORE_URI", valueFrom = var.secret_arns["mlflow-backend-store-uri"] }]
    }
    stream = {
      image       = "fti-pipelines", role = "plain", cpu = var.size.worker_cpu, memory = var.size.worker_memory, port = null
      command     = ["pipelines/feature_pipeline.py", "--mode", "stream"]
      environment = local.environment
      secrets     = local.stores
    }
    monitoring = {
      image       = "fti-pipelines", role = "plain", cpu = var.size.worker_cpu, memory = var.size.worker_memory, port = 9108
      command     = ["pipelines/monitoring_pipeline.py", "--every", "60"]
      environment = local.environment
      secrets     = local.stores
    }
    features = {
      image       = "fti-pipelines", role = "plain", cpu = 1024, memory = 4096, port = null
      command     = ["pipelines/feature_pipeline.py", "--mode", "incremental"]
      environment = local.environment
      secrets     = local.stores
    }
    batch = {
      image       = "fti-pipelines", role = "batch", cpu = 1024, memory = 4096, port = null
      command     = ["pipelines/inference_pipeline.py", "--output", "s3://${var.batch_bucket}/predictions"]
      environment = local.environment
      secrets     = local.stores
    }
    roles = {
      image       = "fti-pipelines", role = "plain", cpu = 256, memory = 512, port = null
      command     = ["-m", "infrastructure", "roles"]
      environment = local.environment
      secrets = concat(local.database["admin"], [
        for part in ["owner", "pipelines", "api", "mlflow"] :
        { name = "DATABASE_${upper(part)}_PASSWORD", valueFrom = var.secret_arns["database-${part}-password"] }
      ])
    }
    migrate = {
      image       = "fti-pipelines", role = "plain", cpu = 256, memory = 512, port = null
      command     = ["-m", "infrastructure", "migrate"]
      environment = local.environment
      secrets     = concat(local.database["owner"], local.redis)
    }
  }
  services  = { api = var.size.api_tasks, mlflow = 1, stream = 1, monitoring = 1 }
  schedules = { features = "rate(1 hour)", batch = "cron(30 2 * * ? *)" }
}

resource "aws_ecs_cluster" "this" {
  name = var.name
  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

resource "aws_ecs_task_definition" "this" {
  for_each                 = local.tasks
  family                   = "${var.name}-${each.key}"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = each.value.cpu
  memory                   = each.value.memory
  execution_role_arn       = var.roles["execution"]
  task_role_arn            = var.roles[each.value.role]
  volume {
    name = "var"
    dynamic "efs_volume_configuration" {
      for_each = each.key == "mlflow" ? [1] : []
      content {
        file_system_id     = aws_efs_file_system.artifacts.id
        transit_encryption = "ENABLED"
        authorization_config {
          access_point_id = aws_efs_access_point.artifacts.id
          iam             = "DISABLED"
        }
      }
    }
  }
  volume { name = "tmp" }
  container_definitions = jsonencode([{
    name                   = each.key
    image                  = var.images[each.value.image]
    command                = each.value.command
    essential              = true
    user                   = "10001:10001"
    readonlyRootFilesystem = true
    stopTimeout            = 60 # the API answers what it has begun, and ships its receipts
    environment            = each.value.environment
    secrets                = each.value.secrets
    portMappings           = each.value.port == null ? [] : [{ containerPort = each.value.port, protocol = "tcp" }]
    mountPoints = [
      { sourceVolume = "var", containerPath = "/var/lib/fti" },
      { sourceVolume = "tmp", containerPath = "/tmp" },
    ]
    linuxParameters = { capabilities = { drop = ["ALL"] }, initProcessEnabled = true }
    logConfiguration = {
      logDriver = "awslogs"
      options   = { awslogs-group = var.log_group, awslogs-region = var.region, awslogs-stream-prefix = each.key }
    }
  }])
}

resource "aws_ecs_service" "this" {
  for_each                          = local.services
  name                              = each.key
  cluster                           = aws_ecs_cluster.this.id
  task_definition                   = aws_ecs_task_definition.this[each.key].arn
  desired_count                     = each.value
  launch_type                       = "FARGATE"
  propagate_tags                    = "SERVICE"
  health_check_grace_period_seconds = each.key == "api" ? 60 : null
  network_configuration {
    subnets          = var.private_subnets
    security_groups  = [var.tasks_group]
    assign_public_ip = false
  }
  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }
  dynamic "load_balancer" {
    for_each = each.key == "api" ? [1] : []
    content {
      target_group_arn = aws_lb_target_group.api.arn
      container_name   = "api"
      container_port   = 8000
    }
  }
  dynamic "service_registries" {
    for_each = each.key == "mlflow" ? [1] : []
    content { registry_arn = aws_service_discovery_service.mlflow.arn }
  }
  lifecycle {
    ignore_changes = [desired_count]
  }
  # A target group can be used once a listener forwards to it; files can be mounted once they are there.
  depends_on = [aws_lb_listener_rule.api, aws_efs_mount_target.artifacts]
}

resource "aws_appautoscaling_target" "api" {
  service_namespace  = "ecs"
  resource_id        = "service/${aws_ecs_cluster.this.name}/${aws_ecs_service.this["api"].name}"
  scalable_dimension = "ecs:service:DesiredCount"
  min_capacity       = var.size.api_tasks
  max_capacity       = var.size.api_tasks_most
}

resource "aws_appautoscaling_policy" "api" {
  name               = "${var.name}-api-cpu"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.api.service_namespace
  resource_id        = aws_appautoscaling_target.api.resource_id
  scalable_dimension = aws_appautoscaling_target.api.scalable_dimension
  target_tracking_scaling_policy_configuration {
    target_value = 70
    predefined_metric_specification { predefined_metric_type = "ECSServiceAverageCPUUtilization" }
  }
}

resource "aws_lb" "this" {
  name                       = var.name
  load_balancer_type         = "application"
  internal                   = false
  subnets                    = var.public_subnets
  security_groups            = [var.balancer_group]
  drop_invalid_header_fields = true
  enable_deletion_protection = true
  access_logs {
    bucket  = var.log_bucket
    enabled = true
  }
}

resource "aws_lb_target_group" "api" {
  name                 = "${var.name}-api"
  vpc_id               = var.vpc_id
  target_type          = "ip"
  port                 = 8000
  protocol             = "HTTP"
  deregistration_delay = 20
  health_check {
    path                = "/ready"
    interval            = 10
    timeout             = 3
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.this.arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = var.certificate_arn
  default_action {
    type = "fixed-response"
    fixed_response {
      content_type = "application/json"
      status_code  = "404"
      message_body = "{\"error\":\"There is no such path.\"}"
    }
  }
}

# What callers need, and no more.
resource "aws_lb_listener_rule" "api" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 10
  action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.api.arn
  }
  condition {
    path_pattern { values = ["/predict", "/predict/batch", "/explain", "/feedback", "/model"] }
  }
}

resource "aws_service_discovery_private_dns_namespace" "this" {
  name = "${var.name}.internal"
  vpc  = var.vpc_id
}

resource "aws_service_discovery_service" "mlflow" {
  name = "mlflow"
  dns_config {
    namespace_id = aws_service_discovery_private_dns_namespace.this.id
    dns_records {
      type = "A"
      ttl  = 10
    }
  }
}

# MLflow's artifacts outlive its task.
resource "aws_efs_file_system" "artifacts" {
  encrypted  = true
  kms_key_id = var.kms_key_arn
  tags       = { Name = "${var.name}-artifacts" }
}

resource "aws_efs_backup_policy" "artifacts" {
  file_system_id = aws_efs_file_system.artifacts.id
  backup_policy { status = "ENABLED" }
}

resource "aws_efs_access_point" "artifacts" {
  file_system_id = aws_efs_file_system.artifacts.id
  posix_user {
    uid = 10001
    gid = 10001
  }
  root_directory {
    path = "/mlflow"
    creation_info {
      owner_uid   = 10001
      owner_gid   = 10001
      permissions = "0750"
    }
  }
}

resource "aws_security_group" "files" {
  name        = "${var.name}-files"
  description = "NFS from tasks"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "files" {
  description                  = "NFS from tasks"
  security_group_id            = aws_security_group.files.id
  referenced_security_group_id = var.tasks_group
  ip_protocol                  = "tcp"
  from_port                    = 2049
  to_port                      = 2049
}

resource "aws_vpc_security_group_egress_rule" "files" {
  description                  = "NFS to the artifacts"
  security_group_id            = var.tasks_group
  referenced_security_group_id = aws_security_group.files.id
  ip_protocol                  = "tcp"
  from_port                    = 2049
  to_port                      = 2049
}

resource "aws_efs_mount_target" "artifacts" {
  count           = length(var.private_subnets)
  file_system_id  = aws_efs_file_system.artifacts.id
  subnet_id       = var.private_subnets[count.index]
  security_groups = [aws_security_group.files.id]
}

resource "aws_iam_role" "scheduler" {
  name = "${var.name}-scheduler"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "scheduler.amazonaws.com" } }]
  })
}

resource "aws_iam_role_policy" "scheduler" {
  role = aws_iam_role.scheduler.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect    = "Allow"
        Action    = "ecs:RunTask"
        Resource  = [for name in keys(local.schedules) : aws_ecs_task_definition.this[name].arn]
        Condition = { ArnEquals = { "ecs:cluster" = aws_ecs_cluster.this.arn } }
      },
      {
        Effect    = "Allow"
        Action    = "iam:PassRole"
        Resource  = distinct(concat([var.roles["execution"]], [for name in keys(local.schedules) : var.roles[local.tasks[name].role]]))
        Condition = { StringEquals = { "iam:PassedToService" = "ecs-tasks.amazonaws.com" } }
      },
      { Effect = "Allow", Action = "kms:Decrypt", Resource = var.kms_key_arn }, # what a schedule says is encrypted
    ]
  })
}

resource "aws_scheduler_schedule" "this" {
  for_each            = local.schedules
  name                = "${var.name}-${each.key}"
  schedule_expression = each.value
  kms_key_arn         = var.kms_key_arn
  flexible_time_window { mode = "OFF" }
  target {
    arn      = aws_ecs_cluster.this.arn
    role_arn = aws_iam_role.scheduler.arn
    ecs_parameters {
      task_definition_arn = aws_ecs_task_definition.this[each.key].arn
      launch_type         = "FARGATE"
      network_configuration {
        subnets          = var.private_subnets
        security_groups  = [var.tasks_group]
        assign_public_ip = false
      }
    }
    retry_policy { maximum_retry_attempts = 2 }
  }
}

output "balancer" { value = aws_lb.this.arn_suffix }
output "target_group" { value = aws_lb_target_group.api.arn_suffix }
output "host" { value = aws_lb.this.dns_name }
output "cluster" { value = aws_ecs_cluster.this.name }
