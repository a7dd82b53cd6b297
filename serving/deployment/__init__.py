"""From the deployment's record to the live model of a worker."""
