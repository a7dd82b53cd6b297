"""A consumer's part in the group: it takes messages of its partitions and is done with them."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from feature_store.errors import FeatureStoreError, StoreUnavailable
from feature_store.stream.kafka.client import Topic, TopicReader
from feature_store.stream.kafka.event_stream import fields_of_message, lag_of
from feature_store.stream.kafka.offsets import Message, OffsetTable, Place
from feature_store.stream.kafka.progress import PartitionProgress, starting_offset
from feature_store.stream.port import Entry, Refused

SHORTEST_SESSION_MS = 6_000
"""Brokers accept no shorter one unless they are told to."""
SILENT_S = 2.0
"""So long after it last asked for messages a consumer shows its group that it lives."""

PARTITION_ENDED, MESSAGES_ARE_GONE = -191, -140
NEVER = frozenset({-188, -190, 3, 29, 30, 31})
"""Codes of librdkafka and the protocol: topic, partition unknown; not allowed to read it."""

logger = logging.getLogger(__name__)


class KafkaConsumerGroup:
    """One consumer's hold on the partitions that its group gives it.

    The group decides who reads a partition, the table of offsets from where. While a partition's
    first message waits, for its time or for another try, its offset stays; what was done behind it
    is delivered again after a death and has no second effect.

    Parameters
    ----------
    topic
        The topic, and clients of it.
    reader
        Says where partitions begin and end.
    offsets
        What is done.
    session_ms
        What a consumer that is dead had is given to others after it.
    wait_ms
        So long a broker waits for messages before it says that there are none.
    """

    def __init__(
        self,
        topic: Topic,
        reader: TopicReader,
        offsets: OffsetTable,
        session_ms: int,
        wait_ms: int,
    ) -> None:
        self.topic = topic
        self.reader = reader
        self.offsets = offsets
        self.consumer = offsets.owner
        self._partitions: dict[int, PartitionProgress] = {}
        self._given: list[int] = []
        self._fetched: deque[Any] = deque()
        self._messages: dict[bytes, Message] = {}
        self._tried: set[Place] = set()
        self._asked_at = time.monotonic()
        self._client = topic.consumer(
            self.consumer,
            **{
                "session.timeout.ms": max(session_ms, SHORTEST_SESSION_MS),
                "fetch.wait.max.ms": wait_ms,
            },
        )
        self._client.subscribe(
            [topic.address.topic],
            on_assign=lambda _, given: self._take_note(given),
            on_revoke=lambda _, taken: self._give_up(taken),
            on_lost=lambda _, taken: self._give_up(taken),
        )

    @property
    def source(self) -> str:
        """The address of the topic."""
        return str(self.topic.address)

    def take(self, count: int, block_ms: int | None) -> list[Entry]:
        """Take messages that come next; with ``block_ms`` wait so long for the first.

        Raises
        ------
        StoreUnavailable
            If no broker answers, or PostgreSQL does not say what is done.
        FeatureStoreError
            If the topic is gone, or may not be read.
        """
        self._begin()
        self._fetch(count, block_ms or 0)
        if not self._fetched:
            self._refuse_silence()
        entries = list[Entry]()
        while self._fetched:
            message = self._fetched[0]
            if message.error() is None:
                entries += self._entry(self._fetched.popleft())
            elif entries and message.error().code() != PARTITION_ENDED:
                break  # what was taken comes first
            else:
                self._end_or_refuse(self._fetched.popleft())
        return entries

    def claim(self, idle_ms: int, count: int) -> list[Entry]:
        """Nothing: the group gives a dead consumer's partitions to others by itself."""
        return []

    def forget_dead_consumers(self) -> None:
        """Nothing: the group does so by itself."""

    def keep(self, ids: Sequence[bytes]) -> None:
        """Show the group that this consumer lives, though it asks for no messages."""
        if time.monotonic() - self._asked_at < SILENT_S:
            return
        with self.topic.translated("keep the group"):
            self._client.pause(self._client.assignment())
            self._note(self._client.poll(0))
            self._client.resume(self._client.assignment())

    def owns(self, entry: Entry) -> bool:
        """Whether the group has left the message's partition with this consumer."""
        return entry.id in self._messages

    def settle(self, done: Sequence[bytes], refused: Sequence[Refused], now: datetime) -> None:
        """Be done with messages: offsets move, and dead letters are kept, in one transaction.

        What belongs to a partition that others read by now is left to them.
        """
        letters = [
            (self._messages[each.entry.id], each)
            for each in refused
            if each.entry.id in self._messages
        ]
        ids = [*done, *(each.entry.id for each in refused)]
        places = [self._messages[name].place for name in ids if name in self._messages]
        for partition, offset in places:
            self._partitions[partition].finish(offset)
        self._store({partition for partition, _ in places}, letters, places, now)
        for name in ids:
            self._messages.pop(name, None)
        self._tried.difference_update(places)

    def begin_try(self, entry: Entry) -> int:
        """Note that a message is tried alone, before it is, and say for which time."""
        message = self._messages.get(entry.id)
        if message is None:  # another one's by now: what it does with it counts
            return 1
        self._tried.add(message.place)
        return self.offsets.begin_try(message.place)

    def backlog(self) -> int:
        """How many messages of all partitions are not done yet."""
        own = {number: each.next_offset for number, each in list(self._partitions.items())}
        return sum(each.lag for each in lag_of(self.reader, self.offsets, own))

    def leave(self, ids: Sequence[bytes]) -> None:
        """Hand back what is in hand as if it had never been delivered, and leave the group."""
        try:
            self.offsets.hand_back(list(self._partitions))
        finally:
            self._forget()
            self._client.close()

    def _take_note(self, given: Iterable[Any]) -> None:
        """Hold the partitions that the group gives; they are read once it is known from where."""
        self._forget()
        self._given = [each.partition for each in given]
        self._client.assign([])

    def _give_up(self, taken: Iterable[Any]) -> None:
        own = [each.partition for each in taken if each.partition in self._partitions]
        # Who reads them next finds them suspect otherwise, which only makes it slower.
        with suppress(StoreUnavailable):
            if own:
                self.offsets.hand_back(own)
        self._forget()
        self._client.unassign()

    def _forget(self) -> None:
        self._partitions, self._given = {}, []
        self._fetched.clear()
        self._messages.clear()
        self._tried.clear()

    def _begin(self) -> None:
        """Read partitions that were given lately from where all before is done."""
        if not self._given:
            return
        from confluent_kafka import TopicPartition

        ends = {partition: self.reader.ends(partition) for partition in self._given}
        known = self.offsets.take_over({partition: low for partition, (low, _) in ends.items()})
        for partition, found in known.items():
            start = starting_offset(self.source, partition, found.next_offset, *ends[partition])
            self._partitions[partition] = PartitionProgress(start, found.deaths, found.suspect_to)
        name = self.topic.address.topic
        with self.topic.translated("begin to read"):
            self._client.assign(
                [TopicPartition(name, n, each.read_to) for n, each in self._partitions.items()]
            )
        self._given = []

    def _fetch(self, count: int, block_ms: int) -> None:
        """Get messages that come next; what was got before is handled first."""
        if self._fetched:
            return
        with self.topic.translated("give messages"):
            self._note(self._client.poll(block_ms / 1000))
            if self._fetched and count > 1:
                self._note(*self._client.consume(count - 1, 0))

    def _note(self, *messages: Any) -> None:
        """Keep messages at once: those that are got and forgotten would be lost."""
        self._fetched.extend(each for each in messages if each is not None)
        self._asked_at = time.monotonic()

    def _entry(self, message: Any) -> Iterator[Entry]:
        """The entry of a message; none where its partition is another one's by now."""
        progress = self._partitions.get(message.partition())
        if progress is None:
            return
        place = message.partition(), message.offset()
        progress.take(message.offset())
        name = b"%d-%d" % place
        self._messages[name] = Message(place, message.key(), message.value())
        _, appended_ms = message.timestamp()
        fields, problem = fields_of_message(message.value())
        deliveries = 1 + progress.deaths * (message.offset() < progress.suspect_to)
        yield Entry(name, fields, deliveries, max(0, appended_ms), problem)

    def _end_or_refuse(self, message: Any) -> None:
        error, progress = message.error(), self._partitions.get(message.partition())
        if error.code() == PARTITION_ENDED:
            if progress is not None:
                progress.reach_end(message.offset())
        elif error.code() == MESSAGES_ARE_GONE:
            given = list(self._partitions)
            self._forget()
            self._given = given  # to begin says how many are gone, and goes on behind them
        elif error.fatal() or error.code() in NEVER:
            raise FeatureStoreError(
                f"{self.source} cannot be read: {error.str()}. Check the topic, and what the user "
                "may do with it."
            )
        else:
            raise StoreUnavailable(f"{self.source} cannot be read: {error.str()}.")

    def _refuse_silence(self) -> None:
        """Tell a topic without news from brokers that cannot tell any."""
        if self.topic.problem is not None:
            self.reader.partitions(SILENT_S)  # raises where none answers
            self.topic.problem = None

    def _store(
        self,
        partitions: Iterable[int],
        letters: Sequence[tuple[Message, Refused]],
        places: Sequence[Place],
        now: datetime,
    ) -> None:
        offsets = {number: self._partitions[number].next_offset for number in partitions}
        if not offsets:
            return
        tried = [place for place in places if place in self._tried or self._is_suspect(place)]
        ours = self.offsets.settle(offsets, letters, tried, now)
        if lost := offsets.keys() - ours:
            logger.warning("stream: partitions %s are read by another consumer", sorted(lost))
        self._tell_brokers({number: offsets[number] for number in ours})

    def _is_suspect(self, place: Place) -> bool:
        return self._partitions[place[0]].deaths > 0

    def _tell_brokers(self, offsets: dict[int, int]) -> None:
        """For the tools that show how far a group is; ours reads its own table."""
        from confluent_kafka import KafkaException, TopicPartition

        name = self.topic.address.topic
        with suppress(KafkaException):
            self._client.commit(
                offsets=[TopicPartition(name, *each) for each in offsets.items()],
                asynchronous=True,
            )
