"""The members of the port that stand on one topic, made of values."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from configs.feature_config import StreamConfig
from feature_store.offline.postgres import Postgres
from feature_store.stream.kafka.client import KafkaAddress, Topic, TopicReader
from feature_store.stream.kafka.dead_letters import KafkaDeadLetters
from feature_store.stream.kafka.event_stream import KafkaEventStream
from feature_store.stream.kafka.group import KafkaConsumerGroup
from feature_store.stream.kafka.offsets import OffsetTable


class KafkaConnection:
    """A topic, the group that consumes it, and the database that keeps what is done.

    Parameters
    ----------
    address
        Where the topic is.
    group
        The consumers that share the work.
    options
        What librdkafka is told beside our own options.
    postgres
        Opens connections to the database that holds the effects.
    config
        Sizes, times and limits.
    """

    def __init__(
        self,
        address: KafkaAddress,
        group: str,
        options: Mapping[str, Any],
        postgres: Postgres,
        config: StreamConfig,
    ) -> None:
        self.topic = Topic(address, options, group)
        self.postgres = postgres
        self.config = config

    @cached_property
    def reader(self) -> TopicReader:
        """Says where the partitions end."""
        return TopicReader(self.topic)

    @property
    def stream(self) -> KafkaEventStream:
        """Where events are appended."""
        return KafkaEventStream(
            *(self.topic, self.reader, self._offsets("")),
            max_backlog=self.config.max_backlog,
            deadline_s=self.config.append_deadline_ms / 1000,
        )

    @property
    def dead_letters(self) -> KafkaDeadLetters:
        """The messages that could not be applied."""
        return KafkaDeadLetters(self.postgres, self.topic.group, self.reader.source, self.stream)

    def consumer_group(self, name: str) -> KafkaConsumerGroup:
        """A consumer's part in the group."""
        return KafkaConsumerGroup(
            *(self.topic, self.reader, self._offsets(name)),
            session_ms=self.config.claim_idle_ms,
            wait_ms=self.config.block_ms,
        )

    def _offsets(self, owner: str) -> OffsetTable:
        return OffsetTable(
            *(self.postgres, self.topic.group, self.reader.source, owner),
            max_dead_letters=self.config.max_dead_letters,
            rows=self.config.batch_rows,
        )
