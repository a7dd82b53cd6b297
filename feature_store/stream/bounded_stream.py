"""What producers of every carrier share: events go in batches, and wait for room."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from itertools import islice

from feature_store.errors import StreamFull
from feature_store.stream.events import Event, fields_of

ROWS_AT_ONCE = 1_000
"""Events that are sent together; between two of them the backlog is looked at."""
PAUSE_S = 0.05


class BoundedEventStream(ABC):
    """Appends events, and waits when the consumers do not keep up.

    Parameters
    ----------
    name
        Of the stream, as messages call it.
    max_backlog
        With more entries than this that are not done `append` waits.
    deadline_s
        Longest wait for room.
    """

    def __init__(self, name: str, max_backlog: int = 200_000, deadline_s: float = 10) -> None:
        self.name = name
        self.max_backlog = max_backlog
        self.deadline_s = deadline_s

    @abstractmethod
    def backlog(self) -> int:
        """How many entries are not done yet."""

    @abstractmethod
    def _send(self, batch: Sequence[dict[str, str]]) -> None:
        """Append the fields of a few events, and wait until they are taken."""

    def append(self, events: Iterable[Event]) -> int:
        """Append events, those of a user in order; see `EventStream.append`."""
        return self.append_fields(fields_of(event) for event in events)

    def append_fields(self, entries: Iterable[dict[str, str]]) -> int:
        """`append` for fields as a stream of Redis holds them; consumers check them."""
        appended, waiting = 0, iter(entries)
        while batch := list(islice(waiting, ROWS_AT_ONCE)):
            self._await_room(appended)
            self._send(batch)
            appended += len(batch)
        return appended

    def _await_room(self, appended: int) -> None:
        deadline = time.monotonic() + self.deadline_s
        while (backlog := self.backlog()) > self.max_backlog:
            if time.monotonic() > deadline:
                raise StreamFull(
                    f"{self.name} holds {backlog:,} events that no consumer has done yet; at most "
                    f"{self.max_backlog:,} may wait ('max_backlog'). {appended:,} were appended "
                    f"before {self.deadline_s:g} s passed without room. Run more consumers: "
                    "python pipelines/feature_pipeline.py --mode stream"
                )
            time.sleep(PAUSE_S)
