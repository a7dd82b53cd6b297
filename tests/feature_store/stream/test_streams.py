"""One checklist for every carrier of events: refused, held back, tried again, done exactly once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from feature_store.errors import FeatureStoreError, InvalidEvent, StoreUnavailable, StreamFull
from feature_store.profiles.writer import ProfileChange
from feature_store.stream.events import fields_of
from tests.worlds.kafka import cluster
from tests.worlds.streams import (
    CONFIG,
    KafkaWorld,
    Recorder,
    RedisWorld,
    World,
    as_bytes,
    change,
    purchase,
    tick,
)

# A consumer of Kafka waits three seconds for others to join its group.
SLOW_WITH_KAFKA = pytest.mark.parametrize(
    "world", ["redis", pytest.param("kafka", marks=pytest.mark.full)], indirect=True
)


@pytest.fixture(scope="module")
def brokers() -> Iterator[str]:
    with cluster() as running:
        yield running.addresses


@pytest.fixture(params=["redis", "kafka"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A stream with nothing in it."""
    made: World
    if request.param == "redis":
        made = RedisWorld(request.getfixturevalue("redis"))
    else:
        made = KafkaWorld(request.getfixturevalue("brokers"), request.getfixturevalue("postgres"))
    yield made
    made.close()


def test_events_are_applied_once_and_leave_the_stream(world: World) -> None:
    profile = Recorder()
    world.stream.append([change(f"e{n}") for n in range(250)] + [purchase()])
    world.stream.append([change("e1")])
    progress = world.drain(profile)
    assert len(profile.applied) == 250
    assert (progress.applied, progress.duplicates, progress.dead) == (251, 1, 0)
    assert world.stream.backlog() == 0
    assert world.drain(other := Recorder()).finished == 0
    assert other.applied == {}


def test_what_is_no_event_becomes_a_dead_letter_beside_others_that_go_through(
    world: World,
) -> None:
    profile, bad = Recorder(), fields_of(change()) | {"attributes": '{"age": -3}'}
    world.stream.append_fields([bad, fields_of(change("good"))])
    assert world.drain(profile).dead == 1
    [letter] = world.dead.newest(10)
    assert letter.fields == as_bytes(bad)
    assert letter.reason == "age is '-3', expected 0 to 120 years, or null"
    assert list(profile.applied) == ["good"]


@SLOW_WITH_KAFKA
def test_an_event_ahead_of_time_is_held_back_until_its_time_is_past(world: World) -> None:
    profile = Recorder()
    world.stream.append([change(at=world.now + timedelta(minutes=5))])
    assert world.drain(profile).held_back == 1
    assert world.drain(profile).applied == 0
    world.now += timedelta(minutes=5)
    assert world.drain(profile).applied == 0
    world.now += timedelta(microseconds=1)
    assert world.drain(profile).applied == 1
    assert profile.batches == [1]


def test_a_running_consumer_applies_what_it_held_back(world: World) -> None:
    profile = Recorder()
    consumer = world.consumer(profile)
    consumer.clock = lambda: datetime.now(UTC)
    thread = threading.Thread(target=consumer.run, daemon=True)
    thread.start()
    world.stream.append([change("old")])
    await_applied(profile, 1)  # a consumer of Kafka waits for its group first
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    world.stream.append([change(at=soon)])
    time.sleep(0.25)
    assert (len(profile.applied), len(consumer.held_back)) == (1, 1)
    await_applied(profile, 2)
    assert datetime.now(UTC) > soon
    consumer.stop()
    thread.join()
    assert world.stream.backlog() == 0


def await_applied(profile: Recorder, count: int) -> None:
    deadline = time.monotonic() + 30
    while len(profile.applied) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_event_further_ahead_is_a_dead_letter_at_once(world: World) -> None:
    world.stream.append([change(at=world.now + timedelta(minutes=5, microseconds=1))])
    assert world.drain().dead == 1
    assert "expected at most 5 minutes after now" in world.dead.newest(1)[0].reason


def test_an_event_that_fails_is_found_among_others_and_tried_a_few_times(world: World) -> None:
    def fails(event: ProfileChange) -> Exception | None:
        return ArithmeticError("too odd") if event.event_id in {"e33", "e71"} else None

    profile = Recorder(fails)
    world.stream.append([change(f"e{n}") for n in range(100)])
    runner = threading.Thread(target=tick, args=(world, runs := threading.Event()), daemon=True)
    runner.start()
    progress = world.drain(profile)
    runs.set()
    assert (progress.applied, progress.dead) == (98, 2)
    letters = world.dead.newest(10)
    assert {letter.fields[b"event_id"] for letter in letters} == {b"e33", b"e71"}
    assert [(letter.reason, letter.tries) for letter in letters] == [
        ("ArithmeticError: too odd", 3)
    ] * 2
    assert world.tries() == 0


def test_an_event_that_can_never_be_applied_is_a_dead_letter_at_once(world: World) -> None:
    profile = Recorder(lambda event: InvalidEvent("its id is taken") if event.key == 7 else None)
    world.stream.append([change()])
    assert world.drain(profile).dead == 1
    [letter] = world.dead.newest(1)
    assert (letter.reason, letter.tries) == ("its id is taken", 1)


def test_an_event_that_fails_once_is_applied_in_the_end(world: World) -> None:
    failures = [ValueError("not yet"), ValueError("not yet")]
    profile = Recorder(lambda event: failures.pop() if failures else None)
    world.stream.append([change()])
    runner = threading.Thread(target=tick, args=(world, runs := threading.Event()), daemon=True)
    runner.start()
    assert world.drain(profile).applied == 1
    runs.set()
    assert world.dead.count() == 0


def test_entries_of_a_consumer_that_died_are_taken_over(world: World) -> None:
    world.stream.append([change(f"e{n}") for n in range(10)])
    dead = world.group()
    world.take_all(dead, 10)
    world.die(dead)
    profile = Recorder()
    assert world.drain(profile).applied == 10
    assert sorted(profile.batches) == [5, 5]


@SLOW_WITH_KAFKA
def test_an_event_that_no_consumer_survives_becomes_a_dead_letter(world: World) -> None:
    class Died(BaseException):
        pass

    def kills(event: ProfileChange) -> Exception | None:
        if event.event_id == "e5":
            raise Died
        return None

    world.stream.append([change(f"e{n}") for n in range(10)])
    profile, deaths = Recorder(kills), 0
    while world.stream.backlog():
        consumer = world.consumer(profile)
        leave, consumer.group.leave = consumer.group.leave, lambda ids: None  # type: ignore[method-assign]
        try:
            consumer.run(until_empty=True)
        except Died:
            deaths += 1
        consumer.group.leave = leave  # type: ignore[method-assign]
        world.die(consumer.group)
    assert deaths == 2 + CONFIG.max_tries
    [letter] = world.dead.newest(10)
    assert (letter.fields[b"event_id"], letter.tries) == (b"e5", CONFIG.max_tries)
    assert letter.reason == "RuntimeError: no consumer survived it"
    assert len(profile.applied) == 9


def test_a_store_that_is_away_is_waited_for_and_nothing_is_lost(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    answers: list[Exception | None] = [StoreUnavailable("PostgreSQL is away"), None]
    answers.insert(0, StoreUnavailable("PostgreSQL is away"))
    profile = Recorder(lambda event: answers.pop(0))
    world.stream.append([change()])
    assert world.drain(profile).applied == 1
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "stream: waits, nothing is lost: PostgreSQL is away"
    assert lines[1].startswith("stream: waits no more, after ")
    assert len(lines) == 2


def test_a_consumer_that_waits_for_a_store_stops_when_it_is_told_to(world: World) -> None:
    profile = Recorder(lambda event: StoreUnavailable("away"))
    world.stream.append([change()])
    consumer = world.consumer(profile)
    thread = threading.Thread(target=consumer.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while consumer.problem is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert consumer.problem == "away"
    consumer.stop()
    thread.join(1)
    assert not thread.is_alive()
    assert world.drain(recorder := Recorder()).applied == 1
    assert list(recorder.applied) == ["e1"]


def test_appending_waits_for_room_and_then_gives_one_clear_error(world: World) -> None:
    full = world.narrow(CONFIG.model_copy(update={"max_backlog": 100, "append_deadline_ms": 200}))
    full.append([change(f"e{n}") for n in range(101)])
    with pytest.raises(StreamFull, match=r"holds 101 events .* at most 100 .* Run more consumers"):
        full.append([change()])
    world.drain()
    assert full.append([change()]) == 1


def test_dead_letters_are_replayed_with_their_original_fields(world: World) -> None:
    world.stream.append([change("e1"), change("e2"), change("e3")])
    broken = Recorder(lambda event: ArithmeticError("a defect"))
    runner = threading.Thread(target=tick, args=(world, runs := threading.Event()), daemon=True)
    runner.start()
    assert world.drain(broken).dead == 3
    runs.set()
    assert world.dead.replay(world.dead.newest(1)[0].id) == 1
    assert world.dead.replay("all") == 2
    assert world.drain(mended := Recorder()).applied == 3
    assert set(mended.applied) == {"e1", "e2", "e3"}
    with pytest.raises(FeatureStoreError, match="There is no dead letter 'nonsense'"):
        world.dead.replay("nonsense")


def test_dead_letters_do_not_grow_without_end(world: World) -> None:
    world.stream.append_fields([{"kind": "?"}] * 100)
    world.drain(config=CONFIG.model_copy(update={"max_dead_letters": 10}))
    assert 10 <= world.dead.count() <= 100
