"""When to train anew, and the requests for it."""
