"""Events through a Redis stream: delivered at least once, with effect exactly once.

Whoever has something to tell calls `EventStream.append`; `StreamConsumer` takes the entries from
there to the writers of profile changes and of activity.
"""
