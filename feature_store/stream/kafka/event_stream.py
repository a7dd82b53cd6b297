"""A topic as producers see it, and how far the consumers are behind."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from feature_store.errors import InvalidEvent, StoreUnavailable, StreamFull
from feature_store.stream.events import Event, Fields, fields_of, fields_of_json, key_of
from feature_store.stream.kafka.client import ANSWER_S, Topic, TopicReader
from feature_store.stream.kafka.offsets import OffsetTable

ROWS_AT_ONCE = 1_000
"""Events that are sent together; between two of them the backlog is looked at."""
PAUSE_S = 0.05
SHOWN_BYTES = 60
JSON_FIELDS = ("attributes",)
"""Fields that are JSON themselves; in a message they stand as such, not as a text."""


@dataclass(frozen=True)
class PartitionLag:
    """How far the consumers are in a partition.

    Parameters
    ----------
    next_offset, end
        The first message that is not done, and the place behind the last one.
    owner, changed_at
        Who reads it, and when that or the offset changed; None where nobody ever did.
    """

    partition: int
    next_offset: int
    end: int
    owner: str | None
    changed_at: datetime | None

    @property
    def lag(self) -> int:
        """How many messages are not done."""
        return max(0, self.end - self.next_offset)


def lag_of(
    reader: TopicReader, offsets: OffsetTable, own: Mapping[int, int] | None = None
) -> list[PartitionLag]:
    """How far the consumers are in each partition.

    Parameters
    ----------
    own
        Partition to what its reader knows better than the table.
    """
    stored, lags = offsets.all(), list[PartitionLag]()
    for partition in reader.partitions():
        low, high = reader.ends(partition)
        known = stored.get(partition)
        done = (own or {}).get(partition, low if known is None else known.next_offset)
        who = (None, None) if known is None else (known.owner, known.changed_at)
        lags.append(PartitionLag(partition, max(low, done), high, *who))
    return lags


class KafkaEventStream:
    """Appends events to a topic, and waits when the consumers do not keep up.

    Parameters
    ----------
    topic, reader
        The topic, and what says where it ends.
    offsets
        What the consumers have done.
    max_backlog
        With more messages than this that are not done `append` waits.
    deadline_s
        Longest wait for room.
    """

    def __init__(
        self,
        topic: Topic,
        reader: TopicReader,
        offsets: OffsetTable,
        max_backlog: int = 200_000,
        deadline_s: float = 10,
    ) -> None:
        self.topic = topic
        self.reader = reader
        self.offsets = offsets
        self.max_backlog = max_backlog
        self.deadline_s = deadline_s
        self._producer: Any = None

    def append(self, events: Iterable[Event]) -> int:
        """Append events, those of a user in order; return how many.

        After an error some of them may have been appended; to append all again does no harm,
        since an event counts once.

        Raises
        ------
        StreamFull
            If the backlog stays above its limit until the deadline.
        StoreUnavailable
            If the brokers do not take them in time.
        """
        return self.append_fields(fields_of(event) for event in events)

    def append_fields(self, entries: Iterable[dict[str, str]]) -> int:
        """`append` for fields as Redis holds them; consumers check them."""
        appended, waiting = 0, iter(entries)
        while batch := list(islice(waiting, ROWS_AT_ONCE)):
            self._await_room(appended)
            self.send((key_of(fields), message_of_fields(fields)) for fields in batch)
            appended += len(batch)
        return appended

    def send(self, messages: Iterable[tuple[bytes | str | None, bytes | None]]) -> None:
        """Append messages, each a key and a value, and wait until the brokers have them."""
        failed = list[str]()

        def note(error: Any, _: Any) -> None:
            if error is not None:
                failed.append(error.str())

        with self.topic.translated("take messages"):
            if self._producer is None:
                self._producer = self.topic.producer()
            for key, value in messages:
                self._produce(key, value, note)
            left = self._producer.flush(ANSWER_S + 1)
        if left or failed:
            why = failed[0] if failed else f"no answer within {ANSWER_S} s"
            raise StoreUnavailable(
                f"Kafka did not take {len(failed) + left:,} messages for {self.topic.address}: "
                f"{why}. Others may be in; append all again, an event counts once."
            )

    def _produce(self, key: bytes | str | None, value: bytes | None, note: Any) -> None:
        name = self.topic.address.topic
        try:
            self._producer.produce(name, key=key, value=value, on_delivery=note)
        except BufferError:  # too many are on their way
            self._producer.flush(ANSWER_S)
            self._producer.produce(name, key=key, value=value, on_delivery=note)
        self._producer.poll(0)

    def backlog(self) -> int:
        """How many messages are not done yet."""
        return sum(each.lag for each in self.lags())

    def lags(self) -> list[PartitionLag]:
        """How far the consumers are in each partition."""
        return lag_of(self.reader, self.offsets)

    def _await_room(self, appended: int) -> None:
        deadline = time.monotonic() + self.deadline_s
        while (backlog := self.backlog()) > self.max_backlog:
            if time.monotonic() > deadline:
                raise StreamFull(
                    f"{self.topic.address} holds {backlog:,} events that no consumer has done yet; "
                    f"at most {self.max_backlog:,} may wait ('max_backlog'). {appended:,} were "
                    f"appended before {self.deadline_s:g} s passed without room. Run more "
                    "consumers: python pipelines/feature_pipeline.py --mode stream"
                )
            time.sleep(PAUSE_S)


def message_of_fields(fields: Mapping[str, str]) -> bytes:
    """A message's value: a JSON object with the fields of an event.

    Examples
    --------
    >>> message_of_fields({"kind": "profile", "user_id": "7", "attributes": '{"age": 36}'})
    b'{"kind": "profile", "user_id": "7", "attributes": {"age": 36}}'
    """
    return json.dumps({name: _as_json(name, text) for name, text in fields.items()}).encode()


def fields_of_message(value: bytes | None) -> tuple[Fields, str | None]:
    """The fields of an event in a message's value; and why there are none, if so.

    Examples
    --------
    >>> fields_of_message(b'{"kind": "profile", "user_id": 7, "attributes": {"age": 36}}')
    ({b'kind': b'profile', b'user_id': b'7', b'attributes': b'{"age": 36}'}, None)
    >>> fields_of_message(None)
    ({}, 'the message has no value, expected a JSON object with the fields of an event')
    """
    if value is None:
        return {}, "the message has no value, expected a JSON object with the fields of an event"
    try:
        fields = fields_of_json(value.decode())
    except UnicodeDecodeError as error:
        return {b"value": value}, f"the message is not UTF-8: {error}"
    except InvalidEvent:
        shown = value[:SHOWN_BYTES].decode(errors="replace")
        return {b"value": value}, f"'{shown}' is no JSON object with the fields of an event"
    try:
        return {name.encode(): text.encode() for name, text in fields.items()}, None
    except UnicodeEncodeError as error:
        return {b"value": value}, f"the message holds half a character: {error.reason}"


def _as_json(name: str, text: str) -> Any:
    if name not in JSON_FIELDS:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
