"""Events through a Redis stream: delivered at least once, with effect exactly once.

A producer calls `EventStream.append`; `StreamConsumer` passes the entries to the writers of profile
changes and of activity.
"""
