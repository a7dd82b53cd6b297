"""The evidence of an experiment: exposures, sequential tests, verdict."""
