"""What was predicted, on what, how well, and what to do about it."""
