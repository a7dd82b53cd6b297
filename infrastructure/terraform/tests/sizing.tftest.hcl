# terraform -chdir=infrastructure/terraform/modules/sizing test -test-directory=../../tests
run "small_and_single" {
  command = plan
  variables {
    environment = "dev"
    size        = "small"
    multi_az    = false
  }
  assert {
    condition     = output.name == "fti-dev" && output.nat_gateways == 1 && output.cache_nodes == 1
    error_message = "A small installation pays for nothing twice."
  }
  assert {
    condition     = output.size.database_gb_most > output.size.database_gb
    error_message = "Storage must be able to grow."
  }
}

run "large_in_two_zones" {
  command = plan
  variables {
    environment = "prod"
    size        = "large"
    multi_az    = true
  }
  assert {
    condition     = output.nat_gateways == output.zones && output.size.api_tasks >= 2
    error_message = "The loss of a zone must leave something that answers."
  }
}

run "no_other_size" {
  command = plan
  variables {
    environment = "dev"
    size        = "huge"
    multi_az    = false
  }
  expect_failures = [var.size]
}
