"""Dead letters: events that could not be applied, kept with the reason until looked at."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from feature_store.errors import FeatureStoreError
from feature_store.online_store import translated
from feature_store.stream.port import DeadLetter
from feature_store.stream.redis.event_stream import stream_key
from feature_store.stream.redis.group import OURS

if TYPE_CHECKING:
    from redis import Redis

AT_ONCE = 1_000


class RedisDeadLetters:
    """The stream ``{project}:events:dead``.

    Parameters
    ----------
    client
        A redis-py client with ``socket_timeout`` set.
    project
        Prefix of the keys.
    """

    def __init__(self, client: Redis, project: str) -> None:
        self.client: Any = client
        self.events_key = stream_key(project)
        self.key = f"{self.events_key}:dead"

    def count(self) -> int:
        """How many there are."""
        with translated("count dead letters"):
            return int(self.client.xlen(self.key))

    def newest(self, most: int) -> list[DeadLetter]:
        """The newest ones, the newest first."""
        with translated("read dead letters"):
            found = self.client.xrevrange(self.key, count=most)
        return [_letter(*each) for each in found]

    def replay(self, letter_id: str) -> int:
        """Append one to the events again, or ``all``; return how many.

        Each is taken from the dead letters in the same step; an event that was applied after all
        has no effect twice.

        Raises
        ------
        FeatureStoreError
            If there is no such dead letter.
        """
        if letter_id == "all":
            replayed = 0
            while found := self._first(AT_ONCE):
                replayed += self._replay(found)
            return replayed
        with translated("read dead letters"):
            found = self._range(letter_id)
        if not found:
            raise FeatureStoreError(
                f"There is no dead letter '{letter_id}'. See them: "
                "python -m feature_store dead-letters"
            )
        return self._replay(found)

    def _first(self, most: int) -> list[Any]:
        with translated("read dead letters"):
            return list(self.client.xrange(self.key, count=most))

    def _range(self, letter_id: str) -> list[Any]:
        from redis.exceptions import ResponseError

        try:
            return list(self.client.xrange(self.key, letter_id, letter_id))
        except ResponseError:  # not even the form of an id
            return []

    def _replay(self, found: Sequence[Any]) -> int:
        pipeline = self.client.pipeline(transaction=True)
        for each in found:
            pipeline.xadd(self.events_key, _letter(*each).fields)
        pipeline.xdel(self.key, *(letter_id for letter_id, _ in found))
        with translated("replay dead letters"):
            pipeline.execute()
        return len(found)


def _letter(letter_id: bytes, found: dict[bytes, bytes]) -> DeadLetter:
    return DeadLetter(
        id=letter_id.decode(),
        time=datetime.fromisoformat(found[OURS + b"time"].decode()),
        reason=found[OURS + b"reason"].decode(),
        tries=int(found[OURS + b"tries"]),
        fields={name: value for name, value in found.items() if not name.startswith(OURS)},
    )
