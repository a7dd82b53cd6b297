"""Training again what a record describes, to equal metrics."""
