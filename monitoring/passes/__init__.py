"""One pass of monitoring, and what follows from it."""
