"""Batch inference: a plan of chunks, the worker that scores them, and its two engines."""
