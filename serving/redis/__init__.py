"""An asynchronous Redis client for one purpose: coalesced reads.

By hand, because redis-py takes 1.7 times as long for one read and 6.6 times for sixteen at once
(``python -m benchmarks.online_read``), and a late reply must never reach the next reader.
"""
