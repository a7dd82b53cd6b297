"""Changes made in MLflow, followed into deployments."""
