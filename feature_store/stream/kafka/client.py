"""A topic of Kafka: its address, the options of the client, its errors, and where it ends."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from feature_store.errors import FeatureStoreError, StoreUnavailable

SCHEME = "kafka://"
ADDRESS = re.compile(r"kafka://(?P<brokers>[^/?#@\s]+)/(?P<topic>[A-Za-z0-9._-]{1,249})")
DEFAULT_PORT = 9092
ALL_BROKERS_DOWN = -187
"""Code of librdkafka."""
REASONS = 4
"""As many callbacks are asked for why something failed: each broker may have said something."""
ANSWER_S = 10
"""So long a broker may take to answer; one that is there does within a fraction of it."""
OWN_OPTIONS = frozenset(
    {
        *("bootstrap.servers", "metadata.broker.list", "group.id", "client.id"),
        *("enable.auto.commit", "enable.auto.offset.store", "auto.offset.reset"),
        *("enable.partition.eof", "enable.idempotence", "partition.assignment.strategy"),
        *("session.timeout.ms", "group.protocol", "isolation.level"),
    }
)
"""Set here, since the guarantees stand on them."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KafkaAddress:
    """Brokers and a topic.

    Examples
    --------
    >>> KafkaAddress.of("kafka://a:9092,b/events")
    KafkaAddress(brokers='a:9092,b:9092', topic='events')
    """

    brokers: str
    topic: str

    @classmethod
    def of(cls, text: str) -> KafkaAddress:
        """Read an address.

        Raises
        ------
        FeatureStoreError
            If it is none.
        """
        found = ADDRESS.fullmatch(text)
        if found is None:
            raise FeatureStoreError(
                f"'{text}' is no address of a topic; expected kafka://broker1:9092,broker2:9092/topic."
            )
        brokers = found["brokers"].split(",")
        with_ports = [each if ":" in each else f"{each}:{DEFAULT_PORT}" for each in brokers]
        return cls(",".join(with_ports), found["topic"])

    def __str__(self) -> str:
        return f"{SCHEME}{self.brokers}/{self.topic}"


def client_options(
    given: Mapping[str, Any], variables: Mapping[str, str], environment: Mapping[str, str]
) -> dict[str, Any]:
    """What librdkafka is told beside our own options: security, above all.

    Parameters
    ----------
    given
        Options by their names in librdkafka.
    variables
        Option to the variable of the environment that holds it.

    Raises
    ------
    FeatureStoreError
        If one of them is set by us, or a variable is not set.
    """
    ours = sorted(OWN_OPTIONS & {*given, *variables})
    if ours:
        raise FeatureStoreError(
            f"'{ours[0]}' cannot stand in 'feature.stream.kafka': it is set by the consumer, whose "
            "guarantees need it so, or by --from."
        )
    for option, variable in variables.items():
        if variable not in environment:
            raise FeatureStoreError(
                f"The variable {variable} is not set; 'options_env' says that it holds '{option}' "
                "for Kafka."
            )
    return {**given, **{option: environment[name] for option, name in variables.items()}}


@dataclass
class Topic:
    """A topic, and clients of it.

    Parameters
    ----------
    address
        Where it is.
    options
        What librdkafka is told beside our own options.
    group
        The consumers that share the work.
    """

    address: KafkaAddress
    options: Mapping[str, Any]
    group: str
    problem: str | None = field(default=None, init=False)
    """What a client said last that keeps it from its work."""

    def consumer(self, name: str, **options: Any) -> Any:
        """A consumer of the group; it takes part once it subscribes."""
        own = {
            "group.id": self.group,
            "client.id": name,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
        }
        return self._client("Consumer", own | options)

    def producer(self) -> Any:
        """A producer that repeats nothing within its own life."""
        timeout_ms = ANSWER_S * 1000
        return self._client(
            "Producer", {"enable.idempotence": True, "delivery.timeout.ms": timeout_ms}
        )

    def _client(self, kind: str, own: Mapping[str, Any]) -> Any:
        kafka = _library()
        options = {
            **self.options,
            "bootstrap.servers": self.address.brokers,
            "error_cb": self._note_problem,
            "log_level": 0,  # errors come by the callback
            **own,
        }
        try:
            return getattr(kafka, kind)(options)
        except (kafka.KafkaException, ValueError, TypeError) as error:
            raise FeatureStoreError(
                f"Kafka's client refuses the options of 'feature.stream.kafka': {_words(error)}."
            ) from error

    def _note_problem(self, error: Any) -> None:
        # That all brokers are down comes beside the reason, before or after it.
        if self.problem is None or error.code() != ALL_BROKERS_DOWN:
            self.problem = error.str()

    @contextmanager
    def translated(self, verb: str) -> Iterator[None]:
        """Turn an error of the client into `StoreUnavailable`."""
        kafka = _library()
        try:
            yield
        except kafka.KafkaException as error:
            said = f" ({self.problem})" if self.problem else ""
            raise StoreUnavailable(
                f"Kafka did not {verb}: {_words(error)}{said}. Are the brokers of {self.address} "
                "right, and do they run?"
            ) from error


class TopicReader:
    """Says which partitions a topic has, and where they begin and end.

    It has a client of its own, so that any thread may ask.
    """

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self._client = topic.consumer("reader")
        self._cluster: str | None = None

    @property
    def source(self) -> str:
        """What names the topic among all of all clusters: offsets mean something in one only.

        Raises
        ------
        StoreUnavailable
            If no broker answers.
        FeatureStoreError
            If there is no such topic, or it may not be read.
        """
        if self._cluster is None:
            self.partitions()
        return f"kafka:{self._cluster}/{self.topic.address.topic}"

    def partitions(self, wait_s: float = ANSWER_S) -> list[int]:
        """The numbers of the partitions, from 0."""
        name = self.topic.address.topic
        with self._asked("say what the topic is"):
            known = self._client.list_topics(name, timeout=wait_s)
        found = known.topics[name]
        if found.error is not None:
            raise FeatureStoreError(
                f"The topic of {self.topic.address} cannot be read: {found.error.str()}. Make it, "
                "or name another one."
            )
        self._cluster = known.cluster_id
        return sorted(found.partitions)

    def ends(self, partition: int) -> tuple[int, int]:
        """Offset of the first message that a partition still has, and behind its last one."""
        from confluent_kafka import TopicPartition

        at = TopicPartition(self.topic.address.topic, partition)
        with self._asked("say where a partition ends"):
            low, high = self._client.get_watermark_offsets(at, timeout=ANSWER_S)
        return low, high

    @contextmanager
    def _asked(self, verb: str) -> Iterator[None]:
        with self.topic.translated(verb):
            try:
                yield
            except Exception:
                with suppress(Exception):
                    for _ in range(REASONS):
                        self._client.poll(0)  # why, is told by callbacks
                raise


def _library() -> Any:
    try:
        import confluent_kafka
    except ImportError as error:
        raise FeatureStoreError(
            "Kafka needs confluent-kafka: uv pip install -r requirements-kafka.txt."
        ) from error
    return confluent_kafka


def _words(error: BaseException) -> str:
    """What an error of the client says, in one line."""
    first = error.args[0] if error.args else error
    text: Callable[[], str] | None = getattr(first, "str", None)
    return " ".join((text() if text else str(first)).split()).rstrip(".")
