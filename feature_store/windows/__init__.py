"""Windowed views: writing events and simulating them."""
