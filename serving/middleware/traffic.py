"""The requests that a worker is answering: how many at most, how long at most, and until when."""

from __future__ import annotations

import asyncio
import time
from typing import Any

SWEEP_S = 1.0
PATIENCE_S = 1.0
"""So long a body may be on its way when all places are taken: several round trips."""


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
    unsent
        Since when a request's body is awaited that has not come with its head, by its task.
    is_draining
        Whether the worker is about to end: each connection is closed after its next answer.
    """

    def __init__(self, max_in_flight: int, limit_s: float) -> None:
        self.max_in_flight = max_in_flight
        self.limit_s = limit_s
        self.is_draining = False
        self.began: dict[asyncio.Task[Any] | None, float] = {}
        self.unsent: dict[asyncio.Task[Any], float] = {}
        self._overdue: dict[asyncio.Task[Any], str] = {}

    @property
    def in_flight(self) -> int:
        """How many requests are being answered."""
        return len(self.began)

    async def sweep(self) -> None:
        """Cancel what takes too long, until this is cancelled itself."""
        late = f"The request was not there and answered within {self.limit_s:g} s. Send it faster."
        while True:
            await asyncio.sleep(SWEEP_S)
            for ended in self._overdue.keys() - self.began.keys():
                del self._overdue[ended]
            now_s = time.perf_counter()
            for task, began_s in self.began.items():
                if now_s - began_s > self.limit_s:
                    self.cancel(task, late)

    def make_room(self, patience_s: float = PATIENCE_S) -> bool:
        """Give up the request whose body is awaited longest; tell whether there is one.

        Parameters
        ----------
        patience_s
            Those that are awaited less long stay.
        """
        latest_s = time.perf_counter() - patience_s
        while self.unsent:
            task, since_s = next(iter(self.unsent.items()))
            if since_s > latest_s:
                break
            del self.unsent[task]
            if task in self.began:
                self.cancel(task, "The body had not come when others needed its place. Try again.")
                return True
        return False

    def cancel(self, task: asyncio.Task[Any] | None, why: str) -> None:
        """Cancel a request, once; its caller is told why."""
        if task is not None and task in self.began and task not in self._overdue:
            self._overdue[task] = why
            task.cancel()

    def why_cancelled(self, task: asyncio.Task[Any] | None) -> str | None:
        """Tell why a request was cancelled here, if it was; it may go on then."""
        why = self._overdue.get(task) if task is not None else None
        if task is not None and why is not None:
            task.uncancel()
        return why
