"""The requests that a worker is answering: how many at most, how long at most, and until when."""

from __future__ import annotations

import asyncio
import time
from typing import Any

SWEEP_S = 1.0


class Traffic:
    """The requests in flight.

    Parameters
    ----------
    max_in_flight
        More are refused at once, so that those let in are answered in time.
    limit_s
        A request that takes longer is cancelled: mostly its body trickles in.

    Attributes
    ----------
    began
        When each request in flight began, by its task; by ``perf_counter``, in seconds.
    is_draining
        Whether the worker is about to end: each connection is closed after its next answer.
    """

    def __init__(self, max_in_flight: int, limit_s: float) -> None:
        self.max_in_flight = max_in_flight
        self.limit_s = limit_s
        self.is_draining = False
        self.began: dict[asyncio.Task[Any] | None, float] = {}
        self._overdue: set[asyncio.Task[Any]] = set()

    @property
    def in_flight(self) -> int:
        """How many requests are being answered."""
        return len(self.began)

    async def cancel_overdue(self) -> None:
        """Cancel what takes too long, until this is cancelled itself."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self._overdue.intersection_update(self.began)
            now_s = time.perf_counter()
            for task, began_s in self.began.items():
                if task and now_s - began_s > self.limit_s and task not in self._overdue:
                    self._overdue.add(task)
                    task.cancel()

    def was_overdue(self, task: asyncio.Task[Any] | None) -> bool:
        """Tell whether a request was cancelled because it took too long; it may go on then."""
        if task is None or task not in self._overdue:
            return False
        task.uncancel()
        return True
