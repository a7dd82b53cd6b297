"""Fitting and tuning a model."""
