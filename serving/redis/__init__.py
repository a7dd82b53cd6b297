"""An asynchronous Redis client for one purpose: coalesced reads."""
