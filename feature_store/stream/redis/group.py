"""The consumer group: what a consumer takes from the stream, keeps, gives back and is done with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from feature_store.online_store import translated
from feature_store.stream.events import Fields
from feature_store.stream.port import Entry, Refused
from feature_store.stream.redis.event_stream import stream_key

if TYPE_CHECKING:
    from redis import Redis

GROUP = "features"
AT_ONCE = 1_000
LONG_IDLE_MS = 24 * 3_600_000
"""Idle time that is given to entries which are handed back: anybody may take them at once."""
FORGOTTEN_AFTER_MS = 600_000
"""A consumer that has nothing and has not asked for so long is gone."""
MOST_PENDING = 1_000_000
"""More than a consumer ever holds between two entries."""
OURS = b"dead:"
"""Begins the fields that a dead letter has beside the original ones."""

# Checked where it is done: with a consumer that has entries they would be lost.
FORGET = """
for i = 2, #ARGV do
  if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[i]) == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[i])
  end
end
"""


P = ParamSpec("P")
T = TypeVar("T")


def with_group(method: Callable[P, T]) -> Callable[P, T]:
    """Translate errors; where the stream or its group is gone, make them and do it again."""

    @wraps(method)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        from redis.exceptions import ResponseError

        group: Any = args[0]
        with translated("handle events"):
            try:
                return method(*args, **kwargs)
            except ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                group.create()
                return method(*args, **kwargs)

    return wrapped


class RedisConsumerGroup:
    """One consumer's hold on the stream of a project.

    Parameters
    ----------
    client
        A redis-py client whose ``socket_timeout`` is longer than any wait for entries.
    project
        The stream is ``{project}:events``.
    consumer
        This consumer's name, which no other ever has.
    max_dead_letters
        So many are kept, about; the oldest go first.
    """

    def __init__(
        self, client: Redis, project: str, consumer: str, max_dead_letters: int = 100_000
    ) -> None:
        self.client: Any = client
        self.key = stream_key(project)
        self.dead_key = f"{self.key}:dead"
        self.tries_key = f"{self.key}:tries"
        self.consumer = consumer
        self.max_dead_letters = max_dead_letters
        self._forget = client.register_script(FORGET)
        self._cursor: Any = b"0-0"

    @property
    def source(self) -> str:
        """The stream's key."""
        return self.key

    def owns(self, entry: Entry) -> bool:
        """Always: what another one takes over is applied by both, and counts once."""
        return True

    def create(self) -> None:
        """Create the stream and the group unless they are there; everything in it is new then."""
        from redis.exceptions import ResponseError

        with translated("make the consumer group"):
            try:
                self.client.xgroup_create(self.key, GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    @with_group
    def take(self, count: int, block_ms: int | None) -> list[Entry]:
        """Take entries that nobody has taken yet; with ``block_ms`` wait so long for the first."""
        streams = {self.key: ">"}
        reply = self.client.xreadgroup(GROUP, self.consumer, streams, count, block_ms)
        return [_entry(*each) for _, entries in reply or () for each in entries]

    @with_group
    def claim(self, idle_ms: int, count: int) -> list[Entry]:
        """Take over entries that a consumer took and did not look after for so long."""
        self._cursor, entries, *_ = self.client.xautoclaim(
            self.key, GROUP, self.consumer, idle_ms, self._cursor, count
        )
        if not entries:
            return []
        ids = [entry_id for entry_id, _ in entries]
        pending = self.client.xpending_range(
            self.key, GROUP, ids[0], ids[-1], MOST_PENDING, self.consumer
        )
        deliveries = {each["message_id"]: each["times_delivered"] for each in pending}
        return [_entry(name, fields, deliveries.get(name, 1)) for name, fields in entries]

    @with_group
    def keep(self, ids: Sequence[bytes]) -> None:
        """Say that this consumer still looks after some entries; that is no delivery."""
        for start in range(0, len(ids), AT_ONCE):
            part = ids[start : start + AT_ONCE]
            self.client.xclaim(self.key, GROUP, self.consumer, 0, part, justid=True)

    @with_group
    def leave(self, ids: Sequence[bytes]) -> None:
        """Hand entries back as if they had never been delivered, so that anybody may, and go."""
        for start in range(0, len(ids), AT_ONCE):
            self.client.xclaim(
                *(self.key, GROUP, self.consumer, 0, ids[start : start + AT_ONCE]),
                idle=LONG_IDLE_MS,
                retrycount=0,
                justid=True,
            )
        self._forget_consumers([self.consumer])

    def forget_dead_consumers(self) -> None:
        """Drop the names of consumers that are gone and have nothing."""
        self._forget_consumers(
            each["name"] for each in self._consumers() if each["idle"] > FORGOTTEN_AFTER_MS
        )

    @with_group
    def settle(self, done: Sequence[bytes], refused: Sequence[Refused], now: datetime) -> None:
        """Be done with entries: those refused become dead letters, all leave the stream.

        Everything happens at once or not at all.
        """
        pipeline = self.client.pipeline(transaction=True)
        for each in refused:
            pipeline.xadd(self.dead_key, _dead_letter(each, now), maxlen=self.max_dead_letters)
        ids = [*done, *(each.entry.id for each in refused)]
        for start in range(0, len(ids), AT_ONCE):
            part = ids[start : start + AT_ONCE]
            pipeline.xack(self.key, GROUP, *part)
            pipeline.xdel(self.key, *part)
            pipeline.hdel(self.tries_key, *part)
        pipeline.execute()

    @with_group
    def begin_try(self, entry: Entry) -> int:
        """Note that an entry is tried alone, before it is, and say for which time."""
        return int(self.client.hincrby(self.tries_key, entry.id, 1))

    @with_group
    def backlog(self) -> int:
        """How many entries are not done yet, taken or not."""
        return int(self.client.xlen(self.key))

    @with_group
    def _consumers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.client.xinfo_consumers(self.key, GROUP)
        return found

    @with_group
    def _forget_consumers(self, names: Iterable[Any]) -> None:
        self._forget([self.key], [GROUP, *names])


def _entry(name: bytes, fields: Fields, deliveries: int = 1) -> Entry:
    return Entry(name, fields, deliveries, appended_ms=int(name.split(b"-")[0]))


def _dead_letter(refused: Refused, now: datetime) -> dict[bytes, bytes]:
    return {
        **refused.entry.fields,
        OURS + b"reason": refused.reason.encode(),
        OURS + b"tries": str(refused.tries).encode(),
        OURS + b"time": now.isoformat().encode(),
        OURS + b"id": refused.entry.id,
    }
