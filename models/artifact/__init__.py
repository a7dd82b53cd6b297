"""The deployable artifact: its files, cache and reference profile."""
