"""What ``python -m feature_store`` shows, command by command; `feature_store.__main__` runs it."""
