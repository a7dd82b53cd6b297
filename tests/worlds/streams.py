"""One small world for each carrier of events, with writers that keep what they are given."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from redis import Redis

from configs.feature_config import StreamConfig
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline.events import ActivityEvent
from feature_store.offline.postgres import Postgres
from feature_store.profiles.writer import ProfileChange
from feature_store.stream.consumer import StreamConsumer, Writer
from feature_store.stream.events import EventParser
from feature_store.stream.kafka.client import KafkaAddress
from feature_store.stream.kafka.connection import KafkaConnection
from feature_store.stream.kafka.group import KafkaConsumerGroup
from feature_store.stream.port import ConsumerGroup, DeadLetters, EventStream
from feature_store.stream.progress import ConsumerProgress
from feature_store.stream.redis.dead_letters import RedisDeadLetters
from feature_store.stream.redis.event_stream import RedisEventStream
from feature_store.stream.redis.group import RedisConsumerGroup
from tests.worlds.kafka import make_topic

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
CONFIG = StreamConfig(batch_rows=100, block_ms=10, claim_idle_ms=100)
PARSER = EventParser(MODEL_VIEW)
MAX_AHEAD = timedelta(minutes=5)


def change(event_id: str = "e1", at: datetime = NOON, **attributes: Any) -> ProfileChange:
    return ProfileChange(event_id, 7, at, attributes or {"age": 36})


def purchase(event_id: str = "p1", at: datetime = NOON) -> ActivityEvent:
    return ActivityEvent(event_id, 7, at, "purchase", 1250)


def as_bytes(fields: dict[str, str]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() for name, value in fields.items()}


class Recorder:
    """A writer that keeps what it is given, each event once; `fails` says what it cannot take."""

    def __init__(self, fails: Callable[[Any], Exception | None] = lambda event: None) -> None:
        self.applied: dict[str, Any] = {}
        self.batches: list[int] = []
        self.fails = fails

    def apply(self, events: Sequence[Any], now: datetime) -> int:
        self.batches.append(len(events))
        for event in events:
            assert event.time < now
            if error := self.fails(event):
                raise error
        before = len(self.applied)
        self.applied |= {event.event_id: event for event in events}
        return len(self.applied) - before


class World:
    """A stream of its own, with a clock that is set by hand."""

    stream: EventStream
    dead: DeadLetters

    def __init__(self) -> None:
        self.name = f"s{uuid.uuid4().hex[:10]}"
        self.now = NOON + timedelta(minutes=1)
        self.consumers: list[StreamConsumer] = []

    def group(self, config: StreamConfig = CONFIG) -> ConsumerGroup:
        """One more consumer's part in the group."""
        raise NotImplementedError

    def narrow(self, config: StreamConfig) -> EventStream:
        """The stream with other limits."""
        raise NotImplementedError

    def tries(self) -> int:
        """How many events are noted as tried alone."""
        raise NotImplementedError

    def take_all(self, group: ConsumerGroup, count: int) -> None:
        """Take so many entries, however long it takes until they are given."""
        deadline, taken = time.monotonic() + 30, 0
        while taken < count:
            assert time.monotonic() < deadline
            taken += len(group.take(count, 100))
        assert taken == count

    def die(self, group: ConsumerGroup) -> None:
        """Let a consumer be gone without a word."""
        raise NotImplementedError

    def consumer(
        self, profile: Writer | None = None, config: StreamConfig = CONFIG
    ) -> StreamConsumer:
        writers: dict[type, Writer] = {
            ProfileChange: profile or Recorder(),
            ActivityEvent: Recorder(),
        }
        made = StreamConsumer(
            self.group(config), PARSER, writers, config, MAX_AHEAD, lambda: self.now
        )
        self.consumers.append(made)
        return made

    def drain(
        self, profile: Writer | None = None, config: StreamConfig = CONFIG
    ) -> ConsumerProgress:
        consumer = self.consumer(profile, config)
        consumer.run(until_empty=True)
        return consumer.progress

    def close(self) -> None:
        """Leave nothing behind."""


class RedisWorld(World):
    """A stream of Redis."""

    def __init__(self, client: Redis) -> None:
        super().__init__()
        self.client = client
        self.stream = RedisEventStream(client, self.name)
        self.dead = RedisDeadLetters(client, self.name)

    def group(self, config: StreamConfig = CONFIG) -> RedisConsumerGroup:
        made = RedisConsumerGroup(self.client, self.name, uuid.uuid4().hex, config.max_dead_letters)
        made.create()
        return made

    def narrow(self, config: StreamConfig) -> EventStream:
        return RedisEventStream(
            self.client, self.name, config.max_backlog, config.append_deadline_ms / 1000
        )

    def tries(self) -> int:
        return int(self.client.hlen(f"{self.name}:events:tries"))  # type: ignore[arg-type]

    def die(self, group: ConsumerGroup) -> None:
        group.leave = lambda ids: None  # type: ignore[method-assign]

    def close(self) -> None:
        for key in self.client.scan_iter(f"{self.name}:*"):
            self.client.unlink(key)


class KafkaWorld(World):
    """A topic on a cluster that other tests use, too."""

    def __init__(self, brokers: str, postgres: Postgres) -> None:
        super().__init__()
        self.brokers, self.postgres = brokers, postgres
        self.connection = self._connect(CONFIG)
        make_topic(self.brokers, self.name)
        self.stream = self.connection.stream
        self.dead = self.connection.dead_letters
        self.made: list[KafkaConsumerGroup] = []

    def group(self, config: StreamConfig = CONFIG) -> KafkaConsumerGroup:
        self.made.append(self._connect(config).consumer_group(uuid.uuid4().hex))
        return self.made[-1]

    def narrow(self, config: StreamConfig) -> EventStream:
        return self._connect(config).stream

    def tries(self) -> int:
        return int(self.postgres.query("SELECT count(*) FROM stream_tries").item())

    def die(self, group: ConsumerGroup) -> None:
        # The rest of the process lives, so its client says good-bye; that is all that is said.
        assert isinstance(group, KafkaConsumerGroup)
        group.offsets.hand_back = lambda partitions: None  # type: ignore[method-assign]
        group.leave([])

    def close(self) -> None:
        running = [consumer.group for consumer in self.consumers]
        for consumer in self.consumers:  # closes its client itself, in the thread that uses it
            consumer.stop()
        for group in self.made:
            if group not in running:
                group.leave([])

    def _connect(self, config: StreamConfig) -> KafkaConnection:
        address = KafkaAddress(self.brokers, self.name)
        return KafkaConnection(address, f"{self.name}-features", {}, self.postgres, config)


def tick(world: World, stopped: threading.Event) -> None:
    """Let the world's clock run, fast."""
    while not stopped.wait(0.01):
        world.now += timedelta(seconds=1)
