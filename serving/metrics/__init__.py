"""Counters of workers, and their text for Prometheus."""
