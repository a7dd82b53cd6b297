"""Profiles: rows that change attribute by attribute."""
