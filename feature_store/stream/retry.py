"""What cannot be applied now: stores that do not answer, events that fail, events ahead of time.

A store that does not answer is asked again with growing pauses, and that is said once. Events that
cannot be applied are found among those that can. An event whose time has not come is held back.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import ParamSpec, TypeVar

from feature_store.errors import InvalidEvent, StoreUnavailable
from feature_store.stream.port import Entry

logger = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0

P = ParamSpec("P")
T = TypeVar("T")


class Stopped(Exception):
    """The consumer was told to stop while it waited for a store."""


class Patience:
    """Does things again until the stores answer.

    Parameters
    ----------
    stopping
        Set when it is to give up.
    meanwhile
        Called between attempts; what it raises of the stores is ignored.
    """

    def __init__(self, stopping: threading.Event, meanwhile: Callable[[], object]) -> None:
        self.stopping = stopping
        self.meanwhile = meanwhile
        self.problem: str | None = None
        self._since = 0.0
        self._waiting = 0
        self._lock = threading.Lock()

    def call(self, action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call an action until no store keeps it from its work; several threads may do so.

        Raises
        ------
        Stopped
            If it is told to stop before that.
        StoreUnavailable
            If the store refuses what it is given, and would refuse it again.
        """
        try:
            return action(*args, **kwargs)
        except StoreUnavailable as error:
            if refuses_values(error):
                raise
            self._begin_waiting(error)
        try:
            return self._again(lambda: action(*args, **kwargs))
        finally:
            self._end_waiting()

    def _again(self, action: Callable[[], T]) -> T:
        pause_s = FIRST_PAUSE_S
        while True:
            if self.stopping.wait(pause_s):
                raise Stopped
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            with suppress(StoreUnavailable):  # it may be the very store that it waits for
                self.meanwhile()
            try:
                return action()
            except StoreUnavailable as error:
                if refuses_values(error):
                    raise
                self.problem = str(error)

    def _begin_waiting(self, error: StoreUnavailable) -> None:
        with self._lock:
            if not self._waiting:
                self._since = time.monotonic()
                logger.warning("stream: waits, nothing is lost: %s", error)
            self._waiting += 1
            self.problem = str(error)

    def _end_waiting(self) -> None:
        with self._lock:
            self._waiting -= 1
            if not self._waiting:
                self.problem = None
                logger.info("stream: waits no more, after %.1f s", time.monotonic() - self._since)


def refuses_values(error: Exception) -> bool:
    """Whether a store answered, but cannot take some value: waiting does not help."""
    from psycopg import DataError, IntegrityError

    return isinstance(error.__cause__, DataError | IntegrityError)


def isolate(
    events: Sequence[T], apply: Callable[[Sequence[T]], int]
) -> tuple[int, dict[int, Exception]]:
    """Apply events together; where that fails, halve them until those are alone that fail.

    Returns
    -------
    new, failures
        How many had not been applied before, and what was raised, by place in ``events``.

    Raises
    ------
    StoreUnavailable
        If a store does not answer: that says nothing about the events.

    Examples
    --------
    >>> def apply(numbers):
    ...     return len([1 / n for n in numbers])
    >>> isolate([1, 2, 0, 4], apply)
    (3, {2: ZeroDivisionError('division by zero')})
    """
    try:
        return apply(events), {}
    except Stopped:
        raise
    # Whatever it is, the other events must go through; it is kept as the reason.
    except Exception as error:
        if isinstance(error, StoreUnavailable) and not refuses_values(error):
            raise
        if len(events) == 1:
            if not isinstance(error, InvalidEvent):  # which is no defect, and says all itself
                logger.warning("stream: an event failed: %s", error, exc_info=True)
            return 0, {0: error}
    half = len(events) // 2
    first, failed = isolate(events[:half], apply)
    second, failed_too = isolate(events[half:], apply)
    return first + second, failed | {half + place: why for place, why in failed_too.items()}


class Waiting:
    """Entries with the time before which nothing is done with them.

    Examples
    --------
    >>> waiting = Waiting()
    >>> waiting.add(Entry(b"1-0", {}), datetime(2026, 1, 5))
    >>> waiting.due(datetime(2026, 1, 4), 10), [e.id for e in waiting.due(datetime(2026, 1, 6), 10)]
    ([], [b'1-0'])
    """

    def __init__(self) -> None:
        self._entries: dict[bytes, Entry] = {}
        self._times: list[tuple[datetime, bytes]] = []

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def ids(self) -> list[bytes]:
        """The ids of all entries that wait."""
        return list(self._entries)

    @property
    def next_time(self) -> datetime | None:
        """When the first of them is due; None when none waits."""
        return self._times[0][0] if self._times else None

    def add(self, entry: Entry, until: datetime) -> None:
        """Keep an entry until its time is past."""
        if entry.id not in self._entries:
            heapq.heappush(self._times, (until, entry.id))
        self._entries[entry.id] = entry

    def due(self, now: datetime, most: int) -> list[Entry]:
        """Hand out entries whose time is past, the earliest first."""
        found = list[Entry]()
        while self._times and self._times[0][0] < now and len(found) < most:
            found.append(self._entries.pop(heapq.heappop(self._times)[1]))
        return found
