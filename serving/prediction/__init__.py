"""From a request to its answer: features, scoring, receipt."""
