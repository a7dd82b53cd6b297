"""Python's garbage collector in a process that must answer without long pauses."""

from __future__ import annotations

import gc
import time

YOUNG_OBJECTS = 5_000
"""A batch of requests leaves less behind; it is collected while it still lies in the caches."""


class GarbagePauses:
    """Keeps the collector's pauses short, and knows the longest one."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._started = 0.0

    def shorten(self) -> None:
        """Set aside all that lives now: what serves until the end is never looked at again."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS, 10, 10)
        gc.callbacks.append(self._note)

    def stop(self) -> None:
        """Measure no longer."""
        if self._note in gc.callbacks:
            gc.callbacks.remove(self._note)

    def _note(self, phase: str, info: dict[str, int]) -> None:
        now = time.perf_counter()
        if phase == "start":
            self._started = now
        else:
            self.longest_s = max(self.longest_s, now - self._started)
