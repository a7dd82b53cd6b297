"""What ``python -m models`` shows, command by command; `models.__main__` runs it."""
