"""What can be configured: four YAML files and the typed settings that read them."""
