"""The stream of events in Redis, as producers see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from feature_store.online_store import translated
from feature_store.stream.bounded_stream import BoundedEventStream

if TYPE_CHECKING:
    from redis import Redis


def stream_key(project: str) -> str:
    """The Redis key of a project's events; what else belongs to the stream hangs on it."""
    return f"{project}:events"


class RedisEventStream(BoundedEventStream):
    """Appends events to a stream of Redis.

    Entries are removed once they are done, so the length of the stream is its backlog.

    Parameters
    ----------
    client
        A redis-py client with ``socket_timeout`` set.
    project
        The stream is ``{project}:events``.
    max_backlog, deadline_s
        See `BoundedEventStream`.
    """

    def __init__(
        self, client: Redis, project: str, max_backlog: int = 200_000, deadline_s: float = 10
    ) -> None:
        self.key = stream_key(project)
        super().__init__(self.key, max_backlog, deadline_s)
        self.client = client

    def backlog(self) -> int:
        """How many entries are not done yet."""
        with translated("count events"):
            length: Any = self.client.xlen(self.key)
        return int(length)

    def _send(self, batch: Sequence[dict[str, str]]) -> None:
        with translated("append events"):
            pipeline = self.client.pipeline(transaction=False)
            for fields in batch:
                pipeline.xadd(self.key, fields)  # type: ignore[arg-type]
            pipeline.execute()
