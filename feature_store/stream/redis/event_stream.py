"""The stream of events in Redis, as producers see it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

from feature_store.errors import StreamFull
from feature_store.online_store import translated
from feature_store.stream.events import Event, fields_of

if TYPE_CHECKING:
    from redis import Redis

ROWS_AT_ONCE = 1_000
"""Events that are sent in one round trip; between two of them the backlog is looked at."""
PAUSE_S = 0.05


def stream_key(project: str) -> str:
    """The Redis key of a project's events; what else belongs to the stream hangs on it."""
    return f"{project}:events"


class RedisEventStream:
    """Appends events, and waits when the consumers do not keep up.

    Entries are removed once they are done, so the length of the stream is its backlog.

    Parameters
    ----------
    client
        A redis-py client with ``socket_timeout`` set.
    project
        The stream is ``{project}:events``.
    max_backlog
        With more entries than this in the stream `append` waits.
    deadline_s
        Longest wait for room.
    """

    def __init__(
        self, client: Redis, project: str, max_backlog: int = 200_000, deadline_s: float = 10
    ) -> None:
        self.client = client
        self.key = stream_key(project)
        self.max_backlog = max_backlog
        self.deadline_s = deadline_s

    def append(self, events: Iterable[Event]) -> int:
        """Append events in order; return how many.

        After an error some of them may have been appended; to append all again does no harm,
        since an event counts once.

        Raises
        ------
        StreamFull
            If the backlog stays above its limit until the deadline.
        StoreUnavailable
            If Redis does not answer in time, or is full.
        """
        return self.append_fields(fields_of(event) for event in events)

    def append_fields(self, entries: Iterable[dict[str, str]]) -> int:
        """`append` for fields as the stream holds them; consumers check them."""
        appended, waiting = 0, iter(entries)
        while batch := list(islice(waiting, ROWS_AT_ONCE)):
            self._await_room(appended)
            with translated("append events"):
                pipeline = self.client.pipeline(transaction=False)
                for fields in batch:
                    pipeline.xadd(self.key, fields)  # type: ignore[arg-type]
                pipeline.execute()
            appended += len(batch)
        return appended

    def backlog(self) -> int:
        """How many entries are not done yet."""
        with translated("count events"):
            length: Any = self.client.xlen(self.key)
        return int(length)

    def _await_room(self, appended: int) -> None:
        deadline = time.monotonic() + self.deadline_s
        while (backlog := self.backlog()) > self.max_backlog:
            if time.monotonic() > deadline:
                raise StreamFull(
                    f"{self.key} holds {backlog:,} events that no consumer has done yet; at most "
                    f"{self.max_backlog:,} may wait ('max_backlog'). {appended:,} were appended "
                    f"before {self.deadline_s:g} s passed without room. Run more consumers: "
                    "python pipelines/feature_pipeline.py --mode stream"
                )
            time.sleep(PAUSE_S)
