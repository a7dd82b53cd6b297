"""What stands before every route: keys, limits, logs, ids."""
