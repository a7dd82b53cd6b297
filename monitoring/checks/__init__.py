"""What is computed of a window of predictions: drift, skew, performance, quality."""
