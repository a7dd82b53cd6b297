"""The requests that a worker is answering: how many at most, how long at most, and until when."""

from __future__ import annotations

import asyncio
import time

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
    is_draining
        Whether the worker is about to end: each connection is closed after its next answer.
    """

    def __init__(self, max_in_flight: int, limit_s: float) -> None:
        self.max_in_flight = max_in_flight
        self.limit_s = limit_s
        self.is_draining = False
        self._began: dict[asyncio.Task[object], float] = {}
        self._overdue: set[asyncio.Task[object]] = set()
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def in_flight(self) -> int:
        """How many requests are being answered."""
        return len(self._began)

    @property
    def is_full(self) -> bool:
        """Whether no more can be let in."""
        return len(self._began) >= self.max_in_flight

    def enter(self, now_s: float) -> asyncio.Task[object]:
        """Let the present task's request in."""
        task = asyncio.current_task()
        assert task is not None
        self._began[task] = now_s
        if self._sweep is None:
            self._sweep = task.get_loop().call_later(SWEEP_S, self._cancel_overdue)
        return task

    def leave(self, task: asyncio.Task[object]) -> None:
        """Note that a request has been answered."""
        del self._began[task]
        self._overdue.discard(task)

    def was_overdue(self, task: asyncio.Task[object]) -> bool:
        """Tell whether a request was cancelled because it took too long; it may go on then."""
        if task not in self._overdue:
            return False
        task.uncancel()
        return True

    def _cancel_overdue(self) -> None:
        now_s = time.perf_counter()
        for task, began_s in self._began.items():
            if now_s - began_s > self.limit_s and task not in self._overdue:
                self._overdue.add(task)
                task.cancel()
        loop = asyncio.get_running_loop()
        self._sweep = loop.call_later(SWEEP_S, self._cancel_overdue) if self._began else None
