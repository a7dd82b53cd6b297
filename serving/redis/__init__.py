"""An asynchronous Redis client for one purpose: coalesced reads.

By hand, because redis-py takes 1.6 times as long for one read and 6.2 times for sixteen at once
(``python -m benchmarks.online_read``), and a late reply must never reach the next reader.
"""
