"""Consumers of Kafka that are killed, and brokers that are away: every event counts once."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.settings import Settings
from tests.faults.streams import (
    StreamWorld,
    assert_commands_append_and_tell,
    assert_poison_ends_as_a_dead_letter,
    kill,
    kill_again_and_again,
    random_events,
    stopped,
    stream_world,
)
from tests.worlds.kafka import cluster, make_topic

SESSION_MS = 6_000


@pytest.fixture(scope="module")
def brokers() -> Iterator[str]:
    with cluster() as running:
        yield running.addresses


@pytest.fixture
def world(var: Settings, brokers: str, request: pytest.FixtureRequest) -> Iterator[StreamWorld]:
    topic = re.sub(r"\W+", "-", request.node.name)[:60]
    make_topic(brokers, topic)
    origin = f"kafka://{brokers}/{topic}"
    with stream_world(var, origin=origin, claim_idle_ms=SESSION_MS) as world:
        yield world


def test_consumers_killed_under_load_lose_nothing_and_count_nothing_twice(
    world: StreamWorld,
) -> None:
    kill_again_and_again(world, kills=2, events=1_200)


@pytest.mark.full
def test_consumers_killed_many_times_lose_nothing_and_count_nothing_twice(
    world: StreamWorld,
) -> None:
    kill_again_and_again(world, kills=10, events=8_000)


def test_consumers_come_and_go_and_every_event_counts_once(world: StreamWorld) -> None:
    first = world.consume()
    world.append(random_events(300, seed=1))
    world.await_backlog(200)
    second = world.consume()  # partitions are given anew while the load goes on
    for seed in range(2, 8):
        world.append(random_events(200, seed))
        time.sleep(0.5)
    said = [stopped(first, within_s=6)]  # it may have to wait for the group to agree
    world.append(random_events(200, seed=8))
    world.await_backlog(0)
    said.append(stopped(second))
    assert all("dead letters" not in lines for lines in said)
    assert all(
        int(found) > 0 for lines in said for found in re.findall(r"(\d+) applied", lines)[-1:]
    )
    world.assert_every_event_counts_once()


def test_what_a_killed_consumer_had_is_taken_over_after_its_session(world: StreamWorld) -> None:
    world.append(random_events(400, seed=9))
    consumer = world.consume()
    world.await_backlog(350)
    kill(consumer)
    left, start = world.events.backlog(), time.monotonic()
    assert left > 0
    other = world.consume()
    world.await_backlog(0)
    assert time.monotonic() - start < 2.5 * SESSION_MS / 1000 + 5
    stopped(other)
    world.assert_every_event_counts_once()


@pytest.mark.full
def test_an_event_that_kills_its_consumer_ends_as_a_dead_letter(world: StreamWorld) -> None:
    assert_poison_ends_as_a_dead_letter(world, random_events(60, seed=10))


def test_brokers_that_are_away_are_an_error_at_the_start(var: Settings) -> None:
    with stream_world(var) as world:
        start = time.monotonic()
        consumer = world.consume("--from", "kafka://127.0.0.1:1/events")
        said, _ = consumer.communicate(timeout=60)
    assert consumer.returncode == 1
    assert said.startswith("✗ Kafka did not say what the topic is: ")
    assert "Are the brokers of kafka://127.0.0.1:1/events right, and do they run?" in said
    assert "Traceback" not in said
    assert time.monotonic() - start < 20


def test_brokers_that_stand_still_are_waited_for(var: Settings) -> None:
    with cluster() as running:
        make_topic(running.addresses, "events")
        with stream_world(var, origin=f"kafka://{running.addresses}/events") as world:
            world.append(random_events(100, seed=11))
            consumer = world.consume()
            world.await_backlog(0)
            running.process.send_signal(signal.SIGSTOP)
            time.sleep(8)
            running.process.send_signal(signal.SIGCONT)
            world.append(random_events(100, seed=12))
            world.await_backlog(0)
            stopped(consumer, within_s=6)
            world.assert_every_event_counts_once()


def test_a_consumer_whose_brokers_died_stops_all_the_same(var: Settings) -> None:
    with cluster() as running:
        make_topic(running.addresses, "events")
        with stream_world(var, origin=f"kafka://{running.addresses}/events") as world:
            world.append(random_events(100, seed=13))
            consumer = world.consume()
            world.await_backlog(0)
            running.process.kill()
            time.sleep(15)
            said = stopped(consumer, within_s=7)
            assert "stream: waits, nothing is lost: Kafka did not say what the topic is" in said
            world.assert_every_event_counts_once()


def test_the_commands_speak_of_a_topic_as_of_redis(world: StreamWorld, tmp_path: Path) -> None:
    found = assert_commands_append_and_tell(world, tmp_path)
    assert sum(each["lag"] for each in found["partitions"]) == 1
    assert len(found["partitions"]) == 4
