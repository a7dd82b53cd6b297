"""Python and the C library in a process that must answer without long pauses."""

from __future__ import annotations

import ctypes
import gc
import sys
import time

YOUNG_OBJECTS = 5_000
"""A batch of requests leaves less behind; it is collected while it still lies in the caches."""
THREAD_SWITCH_S = 0.0001
"""A thread that ships or stages gives way to requests after this long; Python's own is 5 ms."""
_ARENA_MAX, _MMAP_THRESHOLD = -8, -3
"""``M_ARENA_MAX`` and ``M_MMAP_THRESHOLD`` of glibc's malloc.h."""
LARGE_BYTES = 1024 * 1024
"""What is larger is a body or an answer of a batch: given back to the system when it is done."""


def prepare_threads() -> None:
    """Let threads share memory and give way soon; call it before there are any.

    glibc gives each thread an arena of its own, and what one of them has freed does not serve the
    others: two batches of 10,000 rows at once left 15 MB more behind. And once it has freed a large
    piece, it takes later ones of this size from the heap, which they leave in pieces: bodies that
    were decompressed to 16 MB left 140 MB behind. Another C library stays as it is.
    """
    sys.setswitchinterval(THREAD_SWITCH_S)
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_ARENA_MAX, 1)
        library.mallopt(_MMAP_THRESHOLD, LARGE_BYTES)


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
