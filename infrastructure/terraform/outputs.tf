output "api_host" {
  description = "Point the host name of your certificate at it."
  value       = module.ecs.host
}
output "image_urls" { value = module.registry.urls }
output "cluster" { value = module.ecs.cluster }
output "batch_bucket" { value = module.batch_bucket.bucket }
