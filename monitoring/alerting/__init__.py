"""Alerts: states, store, sinks."""
