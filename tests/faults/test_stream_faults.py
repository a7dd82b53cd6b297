"""Consumers that are killed, stores that stop: every event counts once all the same."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from configs.settings import Settings
from feature_store import connect
from feature_store.profiles.writer import ProfileChange
from feature_store.stream.progress import StatusBoard
from infrastructure import embedded
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


@pytest.fixture
def world(var: Settings) -> Iterator[StreamWorld]:
    with stream_world(var) as world:
        yield world


def test_consumers_killed_under_load_lose_nothing_and_count_nothing_twice(
    world: StreamWorld,
) -> None:
    kill_again_and_again(world, kills=3, events=1_500)


@pytest.mark.full
def test_consumers_killed_many_times_lose_nothing_and_count_nothing_twice(
    world: StreamWorld,
) -> None:
    kill_again_and_again(world, kills=15, events=12_000)


def test_of_two_changes_with_one_id_one_counts_after_a_kill_and_the_other_is_a_dead_letter(
    world: StreamWorld,
) -> None:
    now = datetime.now(UTC)
    first = ProfileChange("one-id", 7, now - timedelta(minutes=2), {"age": 31})
    second = ProfileChange("one-id", 7, now - timedelta(minutes=1), {"age": 32})
    taken = connect.stream_consumer(world.settings, "killed-with-the-first-in-hand").group
    taken.create()
    world.events.append([first])
    assert len(taken.take(10, None)) == 1  # and dies: nobody hands the entry back
    world.events.append([second])
    consumer = world.consume()
    world.await_backlog(1)  # the second one is applied before the first is taken over …
    kill(consumer)
    world.drain()  # … which it is now
    assert world.events.backlog() == 0
    [letter] = connect.dead_letters(world.settings).newest(2)
    assert letter.reason.startswith("event_id is 'one-id', which names another change already")
    assert json.loads(letter.fields[b"attributes"]) == {"age": 31}
    world.appended[second.event_id] = second
    world.assert_every_event_counts_once()


def test_two_consumers_at_once_count_every_event_once(world: StreamWorld) -> None:
    first, second = world.consume(), world.consume()
    for seed in range(6):
        world.append(random_events(300, seed))
        time.sleep(0.2)
    world.await_backlog(0)
    said = [stopped(first), stopped(second)]
    assert all("dead letters" not in lines for lines in said)
    world.assert_every_event_counts_once()


def test_a_stop_in_the_middle_of_the_load_loses_nothing(world: StreamWorld) -> None:
    world.append(random_events(1_200, seed=1))
    consumer = world.consume()
    world.await_backlog(1_000)
    said = stopped(consumer)
    assert "✓ Stopped: " in said
    left = world.events.backlog()
    assert 0 < left < 1_200
    [pending] = [world.events.client.xpending(world.events.key, "features")["pending"]]
    assert pending == 0, "it hands back nothing, since it finished its batch"
    world.drain()
    world.assert_every_event_counts_once()


def test_a_redis_that_stands_still_is_waited_for(world: StreamWorld) -> None:
    world.append(random_events(600, seed=2))
    consumer = world.consume()
    world.await_backlog(500)
    world.signal_server("valkey", signal.SIGSTOP)
    time.sleep(6)
    world.signal_server("valkey", signal.SIGCONT)
    world.append(random_events(100, seed=3))
    world.await_backlog(0)
    stopped(consumer)
    world.assert_every_event_counts_once()


def test_a_redis_that_was_killed_and_started_again_is_waited_for(world: StreamWorld) -> None:
    world.append(random_events(600, seed=4))
    time.sleep(1.5)  # it writes its file every second: what was appended is safe then
    consumer = world.consume()
    world.await_backlog(500)
    world.signal_server("valkey", signal.SIGKILL)
    time.sleep(1)
    assert embedded.redis_url(world.var) == world.settings.redis_url
    world.await_backlog(0)
    assert "stream: waits, nothing is lost: Redis" in stopped(consumer)
    world.assert_every_event_counts_once()


def test_a_postgresql_that_was_killed_and_started_again_is_waited_for(
    world: StreamWorld,
) -> None:
    world.append(random_events(600, seed=5))
    consumer = world.consume()
    world.await_backlog(500)
    world.signal_server("postgres", signal.SIGKILL)
    time.sleep(2)
    embedded.postgres_url(world.var)
    world.append(random_events(100, seed=6))
    world.await_backlog(0)
    said = stopped(consumer)
    assert said.count("stream: waits, nothing is lost: PostgreSQL") == 1
    assert "stream: waits no more" in said
    world.assert_every_event_counts_once()


def test_a_postgresql_that_stands_still_is_waited_for(world: StreamWorld) -> None:
    world.append(random_events(600, seed=7))
    consumer = world.consume()
    world.await_backlog(500)
    world.signal_server("postgres", signal.SIGSTOP)
    time.sleep(7)
    [status] = StatusBoard(world.events.client, world.project).read(datetime.now(UTC))
    world.signal_server("postgres", signal.SIGCONT)
    assert status.problem is not None
    world.await_backlog(0)
    stopped(consumer)
    world.assert_every_event_counts_once()


def test_a_consumer_whose_store_stands_still_stops_all_the_same(world: StreamWorld) -> None:
    world.append(random_events(600, seed=8))
    consumer = world.consume()
    world.await_backlog(500)
    world.signal_server("postgres", signal.SIGSTOP)
    try:
        stopped(consumer, within_s=12)
    finally:
        world.signal_server("postgres", signal.SIGCONT)
    world.drain()
    world.assert_every_event_counts_once()


def test_a_full_redis_is_waited_for_and_said_so(world: StreamWorld) -> None:
    world.append(random_events(300, seed=9))
    client: Any = world.events.client
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", 1)
    try:
        consumer = world.consume()
        time.sleep(5)
        assert world.events.backlog() == 300
    finally:
        client.config_set("maxmemory", 0)
    world.await_backlog(0)
    assert "maxmemory" in stopped(consumer)
    world.assert_every_event_counts_once()


def test_an_event_that_kills_its_consumer_ends_as_a_dead_letter(world: StreamWorld) -> None:
    assert_poison_ends_as_a_dead_letter(world, random_events(200, seed=10))


def test_events_are_appended_from_a_file_and_their_status_is_readable(
    world: StreamWorld, tmp_path: Any
) -> None:
    assert_commands_append_and_tell(world, tmp_path, "all")
