"""Servers that only predict, each in an environment of its own."""
