"""Events as they come: delivered at least once, with effect exactly once.

A producer calls `append` of an `EventStream`; `StreamConsumer` passes the entries to the writers of
profile changes and of activity. What carries them is behind one port: Redis Streams, or Kafka.
"""
