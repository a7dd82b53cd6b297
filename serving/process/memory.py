"""Memory of a process with several threads."""

from __future__ import annotations

import ctypes

_ARENA_MAX = -8
"""``M_ARENA_MAX`` of glibc's malloc.h."""


def share_one_arena() -> bool:
    """Let all threads allocate from one arena; call it before there are any.

    glibc gives each thread an arena of its own, and what one of them has freed does not serve the
    others: two batches of 10,000 rows at once left 15 MB more behind. Tell whether this C library
    can do it.
    """
    library = ctypes.CDLL(None)
    return hasattr(library, "mallopt") and library.mallopt(_ARENA_MAX, 1) == 1
