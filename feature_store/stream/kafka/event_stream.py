"""A topic as producers see it, and how far the consumers are behind."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from feature_store.errors import InvalidEvent, StoreUnavailable
from feature_store.stream.bounded_stream import BoundedEventStream
from feature_store.stream.events import Fields, fields_of_json, key_of
from feature_store.stream.kafka.client import ANSWER_S, Topic, TopicReader
from feature_store.stream.kafka.offsets import OffsetTable

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


class KafkaEventStream(BoundedEventStream):
    """Appends events to a topic.

    Parameters
    ----------
    topic, reader
        The topic, and what says where it ends.
    offsets
        What the consumers have done.
    max_backlog, deadline_s
        See `BoundedEventStream`.
    """

    def __init__(
        self,
        topic: Topic,
        reader: TopicReader,
        offsets: OffsetTable,
        max_backlog: int = 200_000,
        deadline_s: float = 10,
    ) -> None:
        super().__init__(str(topic.address), max_backlog, deadline_s)
        self.topic = topic
        self.reader = reader
        self.offsets = offsets
        self._producer: Any = None

    def _send(self, batch: Sequence[dict[str, str]]) -> None:
        self.send((key_of(fields), message_of_fields(fields)) for fields in batch)

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
