"""Consumers that are killed, stores that stop: every event counts once all the same."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from configs.settings import Settings, load_settings
from feature_store import connect
from feature_store.profiles.writer import ProfileChange
from feature_store.stream.progress import StatusBoard
from infrastructure import embedded
from tests.faults.streams import (
    StreamWorld,
    kill,
    kill_again_and_again,
    random_events,
    stopped,
    stream_world,
)

POISONED = ("-m", "tests.faults.poisoned_consumer")


@pytest.fixture(scope="module")
def var(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Both servers, for these tests only: they are stopped and killed."""
    settings = load_settings(var_dir=tmp_path_factory.mktemp("var"))
    embedded.postgres_url(settings)
    embedded.redis_url(settings)
    yield settings
    embedded.delete(settings)


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
    poison = ProfileChange("poison", 1, datetime.now(UTC) - timedelta(hours=1), {"age": 30})
    events = random_events(200, seed=10)
    world.append(events[:150])
    world.events.append([poison])
    world.append(events[150:])
    deaths = 0
    while (consumer := world.consume("--until-empty", program=POISONED)).wait(60) != 0:
        assert consumer.returncode == 9, consumer.communicate()[0]
        deaths += 1
    assert deaths == 2 + world.settings.feature.stream.max_tries
    [letter] = connect.dead_letters(world.settings).newest(10)
    assert letter.fields[b"event_id"] == b"poison"
    assert "no consumer survived it" in letter.reason
    world.assert_every_event_counts_once()


def test_events_are_appended_from_a_file_and_their_status_is_readable(
    world: StreamWorld, tmp_path: Any
) -> None:
    lines = [
        {"kind": "profile", "event_id": "e1", "user_id": 7, "attributes": {"age": 36}},
        {"kind": "activity", "event_id": "e2", "user_id": 7, "event_type": "view"},
        {"kind": "profile", "event_id": "e3", "user_id": 7, "attributes": {"agee": 36}},
    ]
    file = tmp_path / "events.jsonl"
    at = {"event_timestamp": "2026-01-05T12:00:00Z"}
    file.write_text("\n".join(json.dumps(line | at) for line in lines) + "\n\n")
    program = ("-m", "feature_store")
    appending = world.consume("append-events", str(file), "--json", program=program)
    assert json.loads(appending.communicate()[0]) == {"appended": 3, "backlog": 3}
    assert "2 applied, 1 dead letters" in world.drain()
    shown = world.consume("dead-letters", "--json", program=program)
    [letter] = json.loads(shown.communicate()[0])["dead_letters"]
    assert letter["event"]["event_id"] == "e3"
    assert "did you mean 'age'?" in letter["reason"]
    again = world.consume("dead-letters", "--replay", "all", "--json", program=program)
    assert json.loads(again.communicate()[0]) == {"replayed": 1}
    status = world.consume("stream-status", "--json", program=program)
    found = json.loads(status.communicate()[0])
    assert (found["backlog"], found["dead_letters"], found["consumers"]) == (1, 0, [])
    row = connect.online_store(world.settings).read(7)
    assert connect.MODEL_VIEW.schema.decode(row.vector)["age"] == 36
