"""Keeps the event loop awake for a moment, where that is quicker than to be woken up.

A core that sleeps takes some ten microseconds to wake up and finds its caches cold: as long as
Redis takes to answer, or a caller to ask again. While the loop is kept awake it looks for events
without waiting for them, and handles what comes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection


class BusyWait:
    """Decides when the event loop of this thread is kept awake.

    It is while a lone read of features is under way; and after an answer, as long as the last
    request came so soon after the answer before it that waiting for it would have been worthwhile.

    Parameters
    ----------
    limit_s
        So long at most; 0 lets the loop sleep at once.

    Attributes
    ----------
    requests
        Those that the HTTP server has read and not yet answered; empty while there is no server.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._until = 0.0
        self._is_turning = False
        self._answered_at = 0.0
        self._is_asked_soon = False
        self.requests: Collection[object] = ()

    @property
    def is_alone(self) -> bool:
        """Whether one request is being answered here, and no other has come."""
        return len(self.requests) == 1

    def hold(self) -> None:
        """Keep awake from now on, until the limit or the next request."""
        self._until = time.perf_counter() + self.limit_s
        if not self._is_turning:
            self._is_turning = True
            loop = asyncio.get_running_loop()
            loop.call_soon(self._turn, loop)

    def note_request(self) -> None:
        """Note that a request has come."""
        self._is_asked_soon = time.perf_counter() - self._answered_at < self.limit_s
        self._until = 0.0

    def note_answer(self) -> None:
        """Note that an answer has left."""
        self._answered_at = time.perf_counter()
        if self._is_asked_soon:
            self.hold()

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        if time.perf_counter() < self._until:
            loop.call_soon(self._turn, loop)
        else:
            self._is_turning = False
