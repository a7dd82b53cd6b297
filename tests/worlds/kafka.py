"""Brokers that speak Kafka's protocol: librdkafka's own test cluster, in a process of its own.

``python -m tests.worlds.kafka`` prints the addresses and lives until its input ends.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

BROKERS = 3
REBALANCE_DELAY_MS = 200
"""How long a group that begins waits for more consumers; brokers wait 3 s unless they are told."""


@dataclass(frozen=True)
class Cluster:
    """Running brokers: their addresses, and the process that they are."""

    addresses: str
    process: subprocess.Popen[str]


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster, while the block lasts."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.worlds.kafka"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield Cluster(process.stdout.readline().strip(), process)
    finally:
        process.communicate()


def make_topic(brokers: str, name: str) -> None:
    """Make a topic: the cluster does when a producer asks for it."""
    from confluent_kafka import Producer

    Producer({"bootstrap.servers": brokers, "log_level": 0}).list_topics(name, timeout=10)


def main() -> None:
    """Keep a cluster until nobody needs it any more."""
    from confluent_kafka import cimpl

    library = ctypes.CDLL(cimpl.__file__)
    for name in ("conf_new", "new", "mock_cluster_new", "mock_cluster_bootstraps"):
        getattr(library, f"rd_kafka_{name}").restype = ctypes.c_void_p
    said = ctypes.create_string_buffer(512)
    configuration = ctypes.c_void_p(library.rd_kafka_conf_new())
    owner = library.rd_kafka_new(0, configuration, said, ctypes.c_size_t(len(said)))
    assert owner is not None, said.value
    made = ctypes.c_void_p(library.rd_kafka_mock_cluster_new(ctypes.c_void_p(owner), BROKERS))
    library.rd_kafka_mock_group_initial_rebalance_delay_ms(made, REBALANCE_DELAY_MS)
    addresses = ctypes.c_char_p(library.rd_kafka_mock_cluster_bootstraps(made)).value
    assert addresses is not None
    print(addresses.decode(), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
