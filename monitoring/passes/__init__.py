"""One pass of monitoring, and its follow-up."""
