"""What is particular to Redis Streams."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from redis import Redis

from feature_store.stream.progress import ConsumerProgress, ConsumerStatus, StatusBoard
from tests.worlds.streams import CONFIG, NOON, Recorder, RedisWorld, change


@pytest.fixture
def world(redis: Redis) -> Iterator[RedisWorld]:
    world = RedisWorld(redis)
    yield world
    world.close()


def test_a_live_consumer_keeps_what_it_holds_back(world: RedisWorld) -> None:
    world.stream.append([change(at=world.now + timedelta(minutes=1))])
    holder, other = world.consumer(), world.consumer()
    thread = threading.Thread(target=holder.run)
    thread.start()
    time.sleep(4 * CONFIG.claim_idle_ms / 1000)
    assert other.group.claim(CONFIG.claim_idle_ms, 10) == []
    holder.stop()
    thread.join()
    [entry] = other.group.claim(CONFIG.claim_idle_ms, 10)
    assert entry.deliveries == 1


def test_a_stream_that_was_deleted_is_made_anew(world: RedisWorld) -> None:
    consumer = world.consumer(profile := Recorder())
    thread = threading.Thread(target=consumer.run)
    thread.start()
    time.sleep(0.1)
    world.client.delete(f"{world.name}:events")
    world.stream.append([change()])
    time.sleep(0.5)
    consumer.stop()
    thread.join()
    assert list(profile.applied) == ["e1"]


def test_a_consumer_without_entries_is_forgotten_and_one_with_entries_is_not(
    world: RedisWorld,
) -> None:
    idle, busy = world.group(), world.group()
    world.stream.append([change()])
    for group in (busy, idle):
        group.take(1, None)
    idle.leave([])
    busy._forget_consumers([busy.consumer])
    names = [each["name"].decode() for each in busy._consumers()]
    assert names == [busy.consumer]


def test_the_status_of_a_consumer_is_there_for_others_to_read(world: RedisWorld) -> None:
    board, progress = (
        StatusBoard(world.client, world.name),
        ConsumerProgress(applied=5, held_back=1),
    )
    progress.saw(NOON, int(NOON.timestamp() * 1000), NOON + timedelta(seconds=2))
    status = ConsumerStatus.of("c1", progress, NOON + timedelta(seconds=60), backlog=1)
    board.write(status)
    at = NOON + timedelta(seconds=60)
    assert board.read(at + timedelta(seconds=60)) == [status]
    [silent] = board.read(at + timedelta(seconds=90))
    assert silent == replace(status, problem="silent for 0:01:30: it hangs or is dead")
    assert board.read(at + timedelta(minutes=11)) == []
    assert board.read(at) == [status]
    assert status.line == (
        "0 events/s, 5 applied, 1 held back, 1 backlog, 2,000 ms after appending"
    )
    assert status.newest_event_age_s == 60
    board.forget_dead_consumers(at + timedelta(minutes=11))
    assert board.read(at) == []
