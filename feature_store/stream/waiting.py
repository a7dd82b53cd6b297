"""Entries that a consumer keeps until their time has come."""

from __future__ import annotations

import heapq
from datetime import datetime

from feature_store.stream.group import Entry


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
