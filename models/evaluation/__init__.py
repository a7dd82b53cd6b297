"""Metrics with intervals: whole, by slice, paired, calibrated, explained."""
