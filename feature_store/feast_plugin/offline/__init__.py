"""Feast's offline calls: point-in-time joins, tables of others, saved datasets and logs."""
