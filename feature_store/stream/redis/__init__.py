"""Events in Redis Streams: what the embedded server has, and the default."""
