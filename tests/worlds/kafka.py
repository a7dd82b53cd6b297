"""Brokers that speak Kafka's protocol: librdkafka's own test cluster, in a process of its own.

``python -m tests.worlds.kafka`` prints the addresses and lives until its input ends.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

BROKERS = 3


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
    from confluent_kafka import Producer

    owner = Producer({"test.mock.num.brokers": BROKERS, "bootstrap.servers": "none"})
    found = owner.list_topics(timeout=10).brokers.values()
    print(",".join(f"{each.host}:{each.port}" for each in found), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
