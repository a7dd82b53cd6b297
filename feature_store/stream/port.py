"""The port: where events come from, whichever carrier brings them.

::

    RedisConsumerGroup, RedisEventStream, RedisDeadLetters    Redis Streams, embedded
    KafkaConsumerGroup, KafkaEventStream, KafkaDeadLetters    a topic of Kafka
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from feature_store.stream.events import Event, Fields


@dataclass(frozen=True)
class Entry:
    """One event on its way, as it was appended.

    Parameters
    ----------
    id
        Names it among all of its stream.
    fields
        What was appended.
    deliveries
        How often a consumer took it; above 1 an earlier one died or failed.
    appended_ms
        When it was appended, in milliseconds since 1970, by the clock of what carries it.
    problem
        Why it holds no fields, if so.
    """

    id: bytes
    fields: Fields
    deliveries: int = 1
    appended_ms: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class Refused:
    """An entry that goes to the dead letters.

    Parameters
    ----------
    reason
        What arrived and what was expected, or what went wrong.
    tries
        How often it was tried; 0 when it could not even be read.
    """

    entry: Entry
    reason: str
    tries: int = 0


@dataclass(frozen=True)
class DeadLetter:
    """An event that could not be applied.

    Parameters
    ----------
    id
        Names the dead letter.
    time
        When it was given up.
    reason, tries
        Why, and after how many attempts; 0 when it could not even be read.
    fields
        What was appended.
    """

    id: str
    time: datetime
    reason: str
    tries: int
    fields: Fields


class ConsumerGroup(Protocol):
    """One consumer's hold on a stream that it shares with others.

    Every method raises `StoreUnavailable` when what carries the events does not answer; it may then
    be called again.
    """

    consumer: str
    """This consumer's name, which no other ever has."""

    @property
    def source(self) -> str:
        """What is consumed, as people write it."""

    def take(self, count: int, block_ms: int | None) -> list[Entry]:
        """Take entries that nobody has taken yet; with ``block_ms`` wait so long for the first."""

    def claim(self, idle_ms: int, count: int) -> list[Entry]:
        """Take over entries that a consumer took and did not look after for so long."""

    def keep(self, ids: Sequence[bytes]) -> None:
        """Say that this consumer lives and looks after these entries; that is no delivery."""

    def owns(self, entry: Entry) -> bool:
        """Whether an entry that was taken is still this consumer's to handle."""

    def settle(self, done: Sequence[bytes], refused: Sequence[Refused], now: datetime) -> None:
        """Be done with entries: those refused become dead letters, none is delivered again.

        Everything happens at once or not at all.
        """

    def begin_try(self, entry: Entry) -> int:
        """Note that an entry is tried alone, before it is, and say for which time."""

    def backlog(self) -> int:
        """How many entries are not done yet, taken or not."""

    def leave(self, ids: Sequence[bytes]) -> None:
        """Hand entries back as if they had never been delivered, so that anybody may, and go."""

    def forget_dead_consumers(self) -> None:
        """Drop the names of consumers that are gone and have nothing."""


class EventStream(Protocol):
    """A stream as producers see it."""

    def append(self, events: Iterable[Event]) -> int:
        """Append events in order; return how many.

        After an error some of them may have been appended; to append all again does no harm,
        since an event counts once.

        Raises
        ------
        StreamFull
            If the backlog stays above its limit until the deadline.
        StoreUnavailable
            If what carries the events does not answer in time, or is full.
        """

    def append_fields(self, entries: Iterable[dict[str, str]]) -> int:
        """`append` for fields as the stream holds them; consumers check them."""

    def backlog(self) -> int:
        """How many entries are not done yet."""


class DeadLetters(Protocol):
    """Events that could not be applied, kept with the reason until looked at."""

    def count(self) -> int:
        """How many there are."""

    def newest(self, most: int) -> list[DeadLetter]:
        """The newest ones, the newest first."""

    def replay(self, letter_id: str) -> int:
        """Append one to the events again, or ``all``; return how many.

        An event that was applied after all has no effect twice.

        Raises
        ------
        FeatureStoreError
            If there is no such dead letter.
        """
