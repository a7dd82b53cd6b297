"""Whatever the order, the batches and the accidents: online rows follow from the stored events."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from redis import Redis

from configs.settings import ROOT
from feature_store import versions
from feature_store.errors import (
    EntityNotFound,
    InvalidEvent,
    SchemaMismatch,
    StoreUnavailable,
    VersionIncomplete,
    VersionInUse,
)
from feature_store.offline.events import ActivityEvent
from feature_store.offline.postgres import Postgres
from feature_store.offline.windowed_reads import ActivityStore
from feature_store.offline_store import OfflineStore
from feature_store.online_store import OnlineStore
from feature_store.windows.writer import ActivityWriter
from tests.worlds.strategies import bits
from tests.worlds.windows import (
    DAY,
    HOUR,
    INSTANT,
    NOON,
    SCHEMA,
    event_lists,
    expected,
    hourly,
    moments,
    vector,
)

TTL = timedelta(days=30)
LATER = NOON + 31 * DAY
"""After every event that the strategies make."""


@pytest.fixture
def online(redis: Redis) -> OnlineStore:
    """An empty online store of activity, read as of `LATER`."""
    project = f"test{uuid.uuid4().hex[:8]}"
    return OnlineStore(redis, project, SCHEMA, TTL, clock=lambda: LATER)


@pytest.fixture
def writer(postgres: Postgres, online: OnlineStore) -> ActivityWriter:
    return ActivityWriter(postgres, online)


def at(online: OnlineStore, now: datetime) -> OnlineStore:
    """The same rows read at another time."""
    return OnlineStore(online.client, online.project, online.schema, TTL, clock=lambda: now)


def event(name: str, key: int, time: datetime, cents: int | None = 100) -> ActivityEvent:
    return ActivityEvent(name, key, time, "purchase", cents)


def packed(online: OnlineStore) -> dict[bytes, bytes]:
    """Every row, byte for byte, apart from when it was created."""
    keys = sorted(online.client.scan_iter(f"{online.prefix}*"))
    rows = online.client.mget(keys) if keys else []
    return {key: row[:24] + row[32:] for key, row in zip(keys, rows, strict=True)}


def forget(writer: ActivityWriter) -> None:
    """Empty both stores."""
    writer.online.delete()
    with writer.postgres.transaction() as connection:
        connection.execute("DELETE FROM user_events")


def random_events(n: int, users: int, seed: int) -> list[ActivityEvent]:
    rng = random.Random(seed)
    return [
        ActivityEvent(
            f"{seed}-{place}",
            rng.randint(1, users),
            NOON - rng.random() * 45 * DAY,
            rng.choice(["view", "purchase"]),
            rng.choice([None, rng.randint(-(10**6), 10**6)]),
        )
        for place in range(n)
    ]


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(events=event_lists(), reads=st.lists(moments(), min_size=1, max_size=4), data=st.data())
def test_any_order_batches_and_repeats_give_the_rows_of_the_backfill(
    writer: ActivityWriter, events: list[ActivityEvent], reads: list[datetime], data
) -> None:
    writer._register()
    forget(writer)
    again = data.draw(st.lists(st.sampled_from(events), max_size=5))
    order = data.draw(st.permutations([*events, *again]))
    added, start = 0, 0
    while start < len(order):
        size = data.draw(st.integers(1, 8))
        added += writer.apply(order[start : start + size], LATER)
        start += size
    assert added == len(events)

    streamed, keys = packed(writer.online), sorted({e.key for e in events})
    assert len(streamed) == len(keys)
    writer.online.delete()
    assert writer.rebuild() == len(keys)
    assert packed(writer.online) == streamed

    newest = max(e.time for e in events)
    for now in [*reads, newest + TTL, newest + TTL + INSTANT]:
        if now <= newest:
            continue
        rows = at(writer.online, now).read_many(keys)
        past, found = ActivityStore(writer.postgres).historical(
            SCHEMA, np.array(keys), np.full(len(keys), np.datetime64(now.replace(tzinfo=None)))
        )
        for place, key in enumerate(keys):
            right = expected(events, key, now)
            assert (rows[place] is not None) == found[place] == (right is not None)
            if rows[place] is not None:
                assert bits(rows[place].vector).tolist() == bits(vector(right)).tolist()
                assert bits(past.values[place]).tolist() == bits(vector(right)).tolist()


def test_an_event_that_is_delivered_again_counts_once(writer: ActivityWriter) -> None:
    first = event("a", 1, NOON)
    assert writer.apply([first, first], LATER) == 1
    assert writer.apply([first, first], LATER) == 0
    [count, total] = [SCHEMA.position(name) for name in ("events_count_1d", "amount_sum_1d")]
    row = at(writer.online, NOON + HOUR).read(1)
    assert row.vector[[count, total]].tolist() == [1, 1]


@pytest.mark.parametrize(
    "other",
    [{"amount_cents": 999}, {"amount_cents": None}, {"key": 2}, {"event_type": "never"}],
    ids=str,
)
def test_another_event_with_the_same_id_is_refused_with_all_that_came_with_it(
    writer: ActivityWriter, other: dict[str, Any]
) -> None:
    first = event("a", 1, NOON)
    writer.apply([first], LATER)
    with pytest.raises(InvalidEvent, match="event_id is 'a', which names another event already"):
        writer.apply([event("fresh", 1, NOON), replace(first, **other)], LATER)
    [count, total] = [SCHEMA.position(name) for name in ("events_count_1d", "amount_sum_1d")]
    row = at(writer.online, NOON + HOUR).read(1)
    assert row.vector[[count, total]].tolist() == [1, 1]


def test_a_late_event_changes_the_row_though_its_newest_event_stays(writer: ActivityWriter) -> None:
    writer.apply([event("a", 1, NOON)], LATER)
    writer.apply([event("b", 1, NOON - 2 * DAY)], LATER)
    row = at(writer.online, NOON + HOUR).read(1)
    assert row.vector[SCHEMA.position("events_count_7d")] == 2
    assert row.event_time_us == NOON.timestamp() * 1_000_000


def test_a_user_who_goes_quiet_decays_and_expires_without_a_write(writer: ActivityWriter) -> None:
    writer.apply([event("a", 1, NOON)], LATER)
    before = packed(writer.online)
    place = SCHEMA.position("events_count_7d")
    ages = [HOUR, 6 * DAY, 8 * DAY, TTL]
    assert [at(writer.online, NOON + age).read(1).vector[place] for age in ages] == [1, 1, 0, 0]
    with pytest.raises(EntityNotFound, match="No online features for user_activity 1"):
        at(writer.online, NOON + TTL + INSTANT).read(1)
    assert packed(writer.online) == before


def test_an_event_that_has_not_happened_yet_is_refused(writer: ActivityWriter) -> None:
    with pytest.raises(InvalidEvent, match="Hold it back until then"):
        writer.apply([event("a", 1, NOON - HOUR), event("b", 1, NOON)], NOON)
    assert writer.count_users() == 0


def test_a_reader_whose_clock_is_behind_reads_as_of_just_after_the_newest_event(
    writer: ActivityWriter,
) -> None:
    writer.apply([event("a", 1, NOON)], LATER)
    row = at(writer.online, NOON - HOUR).read(1)
    assert row.vector[SCHEMA.position("events_count_1d")] == 1


def test_rows_are_created_later_than_all_before_even_when_the_clock_was_set_back(
    writer: ActivityWriter,
) -> None:
    writer.apply([event("a", 1, NOON)], LATER)
    with writer.postgres.transaction() as connection:
        connection.execute("UPDATE user_events SET created_timestamp = '2100-01-01'")
    writer.rebuild()
    writer.apply([event("b", 1, NOON - HOUR)], LATER)
    row = at(writer.online, NOON + HOUR).read(1)
    assert row.vector[SCHEMA.position("events_count_1d")] == 2


KILLED = """
import json, os, signal, sys
from datetime import datetime
from redis import Redis
from feature_store.offline.events import ActivityEvent
from feature_store.windows.writer import ActivityWriter
from feature_store.feature_definitions import USER_ACTIVITY
from feature_store.online_store import OnlineStore
from feature_store.offline.postgres import Postgres

url, redis_url, project, rows, now = json.loads(sys.argv[1])

class Killed(OnlineStore):
    def write(self, matrix, created):
        os.kill(os.getpid(), signal.SIGKILL)

online = Killed(Redis.from_url(redis_url), project, USER_ACTIVITY.schema)
events = [ActivityEvent(n, k, datetime.fromisoformat(t), "purchase", c) for n, k, t, c in rows]
ActivityWriter(Postgres(url), online).apply(events, datetime.fromisoformat(now))
"""


def test_a_writer_that_is_killed_before_redis_is_healed_by_the_delivery_of_the_same_events(
    writer: ActivityWriter, settings
) -> None:
    from infrastructure.embedded import redis_url

    writer.apply([event("a", 1, NOON - DAY)], LATER)
    lost = [event("b", 1, NOON), event("c", 2, NOON)]
    rows = [(e.event_id, e.key, e.time.isoformat(), e.amount_cents) for e in lost]
    world = [writer.postgres.url, redis_url(settings), writer.online.project, rows,
             LATER.isoformat()]  # fmt: skip
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, json.dumps(world)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert killed.returncode == -9
    soon = at(writer.online, NOON + HOUR)
    place = SCHEMA.position("events_count_7d")
    assert soon.read(1).vector[place] == 1
    assert soon.read_many([2]) == [None]

    assert writer.apply(lost, LATER) == 0
    assert [row.vector[place] for row in soon.read_many([1, 2]) if row] == [2, 1]


def test_while_redis_is_away_events_are_kept_and_applying_again_writes_the_rows(
    writer: ActivityWriter,
) -> None:
    writer.apply([event("a", 1, NOON - DAY)], LATER)
    away = Redis.from_url("redis://127.0.0.1:1/0", socket_timeout=1, retry=None)
    broken = ActivityWriter(writer.postgres, OnlineStore(away, writer.online.project, SCHEMA))
    broken._is_registered = True
    with pytest.raises(StoreUnavailable, match="Redis did not write"):
        broken.apply([event("b", 1, NOON)], LATER)
    assert writer.apply([event("b", 1, NOON)], LATER) == 0
    row = at(writer.online, NOON + HOUR).read(1)
    assert row.vector[SCHEMA.position("events_count_7d")] == 2


def test_writers_at_once_end_with_the_rows_of_the_backfill(writer: ActivityWriter) -> None:
    events = random_events(600, users=20, seed=1)
    writer._register()
    added: list[int] = []

    def write(seed: int) -> None:
        mine = ActivityWriter(writer.postgres, writer.online.of(SCHEMA))
        order = random.Random(seed).sample(events, len(events))
        added.extend(mine.apply(order[n : n + 60], LATER) for n in range(0, len(order), 60))

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(added) == 600
    streamed = packed(writer.online)
    writer.online.delete()
    writer.rebuild()
    assert packed(writer.online) == streamed
    assert len(streamed) == 20


def test_a_backfill_of_a_range_makes_whole_rows_of_the_users_with_events_in_it(
    writer: ActivityWriter,
) -> None:
    old, new = event("a", 1, NOON - 3 * DAY), event("b", 2, NOON)
    writer.apply([old, new, event("c", 1, NOON - 9 * HOUR)], LATER)
    every = packed(writer.online)
    writer.online.delete()
    blocks: list[int] = []
    assert writer.count_users(old.time, NOON - DAY) == 1
    assert writer.rebuild(old.time, NOON - DAY, blocks.append) == 1
    assert blocks == [1]
    assert list(packed(writer.online).items()) == list(every.items())[:1]
    assert writer.rebuild(NOON, NOON + INSTANT) == 1
    assert writer.rebuild(NOON + INSTANT, None) == 0
    assert packed(writer.online) == every


# ---- as of any time ------------------------------------------------------------------------------


def historical(store: OfflineStore, asked: Sequence[tuple[int, datetime]], **cut: object):
    keys = np.array([key for key, _ in asked], dtype=np.int64)
    times = np.array([time.replace(tzinfo=None) for _, time in asked], dtype="datetime64[us]")
    return store.historical(SCHEMA, "user_id", keys, times, **cut)  # type: ignore[arg-type]


def test_rows_out_are_rows_in_in_order_however_many_blocks_they_make(
    writer: ActivityWriter, offline: OfflineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = random_events(500, users=40, seed=2)
    writer.apply(events, LATER)
    rng = random.Random(3)
    asked = [(rng.randint(1, 45), NOON - rng.random() * 40 * DAY) for _ in range(300)]
    whole, whole_found = historical(offline, asked)
    monkeypatch.setattr("feature_store.offline.windowed_reads.USERS_AT_ONCE", 7)
    monkeypatch.setattr("feature_store.offline.windowed_reads.ROWS_AT_ONCE", 3)
    monkeypatch.setattr("feature_store.definitions.window_totals.PAIRS_AT_ONCE", 11)
    parts, found = historical(offline, asked)
    assert bits(parts.values).tolist() == bits(whole.values).tolist()
    assert found.tolist() == whole_found.tolist()
    for row, (key, time) in enumerate(asked):
        right = vector(expected(events, key, time))
        assert bits(parts.values[row]).tolist() == bits(right).tolist()


def test_what_the_store_learned_later_is_left_out(
    writer: ActivityWriter, offline: OfflineStore
) -> None:
    writer.apply([event("a", 1, NOON - DAY)], LATER)
    between = datetime.now(NOON.tzinfo)
    writer.apply([event("b", 1, NOON)], LATER)
    place = SCHEMA.position("events_count_7d")
    asked = [(1, NOON + HOUR)]
    assert historical(offline, asked)[0].values[0, place] == 2
    assert historical(offline, asked, known_by=between)[0].values[0, place] == 1
    first = historical(offline, asked, known_by=between - timedelta(days=999))
    assert first[1].tolist() == [False]
    keys, times = np.array([1]), np.array([LATER.replace(tzinfo=None)], dtype="datetime64[us]")
    _, found = ActivityStore(offline.postgres).historical(SCHEMA, keys, times, known=True)
    is_past = datetime.now(NOON.tzinfo) <= LATER
    assert found.tolist() == [is_past]


def test_an_absent_time_finds_nothing(writer: ActivityWriter, offline: OfflineStore) -> None:
    writer.apply([event("a", 1, NOON)], LATER)
    times = np.array(["NaT", "2026-03-16"], dtype="datetime64[us]")
    matrix, found = ActivityStore(offline.postgres).historical(SCHEMA, np.array([1, 1]), times)
    assert found.tolist() == [False, True]
    assert np.isnan(matrix.values[0]).all()
    empty = np.array([], dtype=np.int64)
    assert len(ActivityStore(offline.postgres).historical(SCHEMA, empty, times[:0])[0]) == 0


# ---- versions ------------------------------------------------------------------------------------


@pytest.fixture
def new(writer: ActivityWriter) -> ActivityWriter:
    """A writer whose code defines the view anew, over the same stores."""
    return ActivityWriter(writer.postgres, writer.online.of(hourly(), TTL))


def test_a_changed_definition_is_filled_beside_the_old_one_and_then_switched_to(
    writer: ActivityWriter, new: ActivityWriter, offline: OfflineStore
) -> None:
    events = random_events(200, users=10, seed=4)
    writer.apply(events, LATER)
    old_rows, new_online = packed(writer.online), at(new.online, NOON)
    with pytest.raises(SchemaMismatch, match="feature 'events_count_7d' changed: hop 1d → 1h"):
        new_online.read(1)

    versions.start_fill(offline, new.online, "user_id")
    with pytest.raises(VersionIncomplete, match="lacks 10 of the 10 entities"):
        versions.switch(offline, new.online, 0)
    assert new.rebuild() == 10
    with pytest.raises(SchemaMismatch, match="being filled"):
        new_online.read(1)
    assert versions.switch(offline, new.online, 0).state == "current"
    assert packed(writer.online) == old_rows
    past = historical(offline, [(1, NOON)])[0].values[0]
    assert bits(at(writer.online, NOON).read(1).vector).tolist() == bits(past).tolist()


def test_the_rows_of_every_stored_version_are_kept_up(
    writer: ActivityWriter, new: ActivityWriter, offline: OfflineStore
) -> None:
    writer.apply([event("a", 1, NOON - HOUR)], LATER)
    versions.start_fill(offline, new.online, "user_id")
    new.rebuild()
    versions.switch(offline, new.online, 0)
    new.apply([event("b", 1, NOON)], LATER)
    soon = NOON + HOUR
    assert at(writer.online, soon).read(1).vector[SCHEMA.position("events_count_7d")] == 2
    assert at(new.online, soon).read(1).vector[SCHEMA.position("events_count_7d")] == 2


def test_dropping_a_version_keeps_the_events(
    writer: ActivityWriter, new: ActivityWriter, offline: OfflineStore
) -> None:
    writer.apply([event("a", 1, NOON)], LATER)
    versions.start_fill(offline, new.online, "user_id")
    new.rebuild()
    with pytest.raises(VersionInUse, match="is the current one"):
        versions.drop(offline, writer.online)
    versions.switch(offline, new.online, 0)
    assert versions.drop(offline, writer.online) == 1
    assert writer.online.count() == 0
    assert new.online.count() == 1
    assert writer.count_users() == 1


def test_a_redis_that_was_lost_is_filled_and_readable_again(
    writer: ActivityWriter, new: ActivityWriter, offline: OfflineStore
) -> None:
    writer.apply([event("a", 1, NOON)], LATER)
    versions.start_fill(offline, new.online, "user_id")
    new.rebuild()
    versions.switch(offline, new.online, 0)
    both = packed(writer.online), packed(new.online)
    for name in writer.online.client.scan_iter(f"{writer.online.project}:*"):
        writer.online.client.delete(name)
    for each in (new, writer):
        ActivityWriter(each.postgres, each.online.of(each.online.schema, TTL)).rebuild()
    assert (packed(writer.online), packed(new.online)) == both
    assert at(writer.online, NOON + HOUR).read(1).key == 1
    assert at(new.online, NOON + HOUR).read(1).key == 1
