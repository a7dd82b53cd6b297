"""Experiments: commands, controller, traffic and views."""
