"""The stream: what is refused, held back, tried again, and done with exactly once."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis

from configs.feature_config import StreamConfig
from feature_store.errors import FeatureStoreError, InvalidEvent, StoreUnavailable, StreamFull
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline.events import ActivityEvent
from feature_store.profiles.writer import ProfileChange
from feature_store.stream.consumer import StreamConsumer, Writer
from feature_store.stream.dead_letters import DeadLetters
from feature_store.stream.event_stream import EventStream
from feature_store.stream.events import EventParser, fields_of, fields_of_json
from feature_store.stream.group import GROUP, ConsumerGroup
from feature_store.stream.progress import ConsumerProgress, ConsumerStatus, StatusBoard

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

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.project = f"s{uuid.uuid4().hex[:10]}"
        self.now = NOON + timedelta(minutes=1)
        self.stream = EventStream(client, self.project)
        self.dead = DeadLetters(client, self.project)

    def consumer(
        self, profile: Writer | None = None, config: StreamConfig = CONFIG
    ) -> StreamConsumer:
        group = ConsumerGroup(self.client, self.project, uuid.uuid4().hex)
        writers: dict[type, Writer] = {
            ProfileChange: profile or Recorder(),
            ActivityEvent: Recorder(),
        }
        return StreamConsumer(group, PARSER, writers, config, MAX_AHEAD, lambda: self.now)

    def drain(self, profile: Writer | None = None) -> ConsumerProgress:
        consumer = self.consumer(profile)
        consumer.run(until_empty=True)
        return consumer.progress


@pytest.fixture
def world(redis: Redis) -> Iterator[World]:
    world = World(redis)
    yield world
    for key in redis.scan_iter(f"{world.project}:*"):
        redis.unlink(key)


@pytest.mark.parametrize(
    "event", [change(), purchase(), ActivityEvent("v", -1, NOON, "view", None)]
)
def test_an_event_comes_out_of_its_fields_as_it_went_in(event: Any) -> None:
    assert PARSER.parse(as_bytes(fields_of(event))) == event


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("kind", "profil", "kind is 'profil', did you mean 'profile'"),
        ("kind", None, "kind is missing, expected one of profile, activity"),
        ("event_id", None, "event_id is missing, expected 1 to 200 printable characters"),
        ("event_id", "a\0b", "event_id is 'a\0b', expected 1 to 200 printable"),
        ("user_id", "7.5", "user_id is '7.5', expected a whole number"),
        ("user_id", "1_000", "user_id is '1_000', expected a whole number"),
        ("user_id", str(2**63), f"user_id is '{2**63}', expected at most"),
        ("event_timestamp", "noon", "event_timestamp is 'noon', expected ISO 8601"),
        ("event_timestamp", "0001-01-01T00:00+14:00", "expected ISO 8601"),
        ("attributes", "{", "attributes is '{', expected a JSON object"),
        ("attributes", "[" * 100_000, "expected a JSON object"),
        ("attributes", "{}", "attributes is '{}', expected a JSON object with an attribute"),
        ("attributes", '{"agee": 3}', "no attribute 'agee', did you mean 'age'?"),
        ("attributes", '{"age": -3}', "age is '-3', expected 0 to 120 years"),
        ("attributes", '{"age": 36.5}', "age is '36.5', expected a whole number"),
        ("attributes", '{"age": "36"}', "age is '36', .* as a number"),
        ("attributes", '{"age": true}', "age is 'True', .* as a number"),
        ("attributes", '{"age": NaN}', "NaN is no number"),
        ("attributes", '{"age": 1e999}', "age is 'inf', expected 0 to 120"),
        ("attributes", '{"sex": 3}', "sex is '3', expected a word, or null"),
        ("attributes", '{"sex": "\\u0000"}', "expected a word, or null"),
        ("attributes", '{"sex": "\\ud800"}', "expected a word, or null"),
        ("event_typ", "view", "a profile event has no field 'event_typ', did you mean 'event_id'"),
    ],
)
def test_what_is_no_event_is_refused_with_what_arrived_and_what_was_expected(
    field: str, value: str | None, reason: str
) -> None:
    fields = as_bytes(fields_of(change()))
    fields.pop(field.encode(), None)
    if value is not None:
        fields[field.encode()] = value.encode()
    with pytest.raises(InvalidEvent, match=reason):
        PARSER.parse(fields)


def test_words_nobody_defined_and_missing_values_are_no_mistake() -> None:
    event = change(sex="never seen before", age=None)
    assert PARSER.parse(as_bytes(fields_of(event))) == event


def test_a_time_without_a_zone_is_utc() -> None:
    fields = as_bytes(fields_of(change())) | {b"event_timestamp": b"2026-01-05T12:00:00"}
    assert PARSER.parse(fields).time == NOON


def test_a_line_of_json_becomes_the_same_fields() -> None:
    line = (
        '{"kind": "activity", "event_id": "p1", "user_id": 7, "event_type": "purchase", '
        '"event_timestamp": "2026-01-05T12:00:00+00:00", "amount_cents": 1250}'
    )
    assert PARSER.parse(as_bytes(fields_of_json(line))) == purchase()
    with pytest.raises(InvalidEvent, match="is no JSON object; expected one event a line"):
        fields_of_json("[1]")


def test_events_are_applied_once_and_leave_the_stream(world: World) -> None:
    profile = Recorder()
    world.stream.append([change(f"e{n}") for n in range(250)] + [purchase()])
    world.stream.append([change("e1")])
    progress = world.drain(profile)
    assert len(profile.applied) == 250
    assert (progress.applied, progress.duplicates, progress.dead) == (251, 1, 0)
    assert world.stream.backlog() == 0
    assert world.client.xpending(world.stream.key, GROUP)["pending"] == 0


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


def test_a_running_consumer_applies_what_it_held_back(redis: Redis) -> None:
    world, profile = World(redis), Recorder()
    consumer = world.consumer(profile)
    consumer.clock = lambda: datetime.now(UTC)
    world.stream.append([change(at=datetime.now(UTC) + timedelta(seconds=0.5))])
    thread = threading.Thread(target=consumer.run)
    thread.start()
    time.sleep(0.25)
    assert (len(profile.applied), len(consumer.held_back)) == (0, 1)
    time.sleep(0.75)
    consumer.stop()
    thread.join()
    assert len(profile.applied) == 1
    assert world.stream.backlog() == 0


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
    assert world.client.exists(f"{world.stream.key}:tries") == 0


def tick(world: World, stopped: threading.Event) -> None:
    """Let the world's clock run, fast."""
    while not stopped.wait(0.01):
        world.now += timedelta(seconds=1)


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
    dead = world.consumer().group
    dead.create()
    assert len(dead.take(10, None)) == 10
    profile = Recorder()
    assert world.drain(profile).applied == 10
    assert sorted(profile.batches) == [5, 5]


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
        consumer.group.leave = lambda ids: None  # type: ignore[method-assign]
        try:
            consumer.run(until_empty=True)
        except Died:
            deaths += 1
    assert deaths == 2 + CONFIG.max_tries
    [letter] = world.dead.newest(10)
    assert (letter.fields[b"event_id"], letter.tries) == (b"e5", CONFIG.max_tries)
    assert letter.reason == "RuntimeError: no consumer survived it"
    assert len(profile.applied) == 9


def test_a_live_consumer_keeps_what_it_holds_back(world: World) -> None:
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
    thread = threading.Thread(target=consumer.run)
    thread.start()
    time.sleep(0.3)
    assert consumer.problem == "away"
    consumer.stop()
    thread.join(1)
    assert not thread.is_alive()
    assert world.drain(recorder := Recorder()).applied == 1
    assert list(recorder.applied) == ["e1"]


def test_a_stream_that_was_deleted_is_made_anew(world: World) -> None:
    consumer = world.consumer(profile := Recorder())
    thread = threading.Thread(target=consumer.run)
    thread.start()
    time.sleep(0.1)
    world.client.delete(world.stream.key)
    world.stream.append([change()])
    time.sleep(0.5)
    consumer.stop()
    thread.join()
    assert list(profile.applied) == ["e1"]


def test_appending_waits_for_room_and_then_gives_one_clear_error(world: World) -> None:
    full = EventStream(world.client, world.project, max_backlog=100, deadline_s=0.2)
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
    group = ConsumerGroup(world.client, world.project, "c", max_dead_letters=10)
    world.stream.append_fields([{"kind": "?"}] * 100)
    writers: dict[type, Writer] = {ProfileChange: Recorder()}
    StreamConsumer(group, PARSER, writers, CONFIG, MAX_AHEAD, lambda: world.now).run(
        until_empty=True
    )
    assert 10 <= world.dead.count() <= 100


def test_a_consumer_without_entries_is_forgotten_and_one_with_entries_is_not(
    world: World,
) -> None:
    idle, busy = world.consumer().group, world.consumer().group
    world.stream.append([change()])
    for group in (busy, idle):
        group.create()
        group.take(1, None)
    idle.leave([])
    busy._forget_consumers([busy.consumer])
    names = [each["name"].decode() for each in busy._consumers()]
    assert names == [busy.consumer]


def test_the_status_of_a_consumer_is_there_for_others_to_read(world: World) -> None:
    board, progress = (
        StatusBoard(world.client, world.project),
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
