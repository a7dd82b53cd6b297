"""Servers, load and yardsticks for the benchmark of serving."""
