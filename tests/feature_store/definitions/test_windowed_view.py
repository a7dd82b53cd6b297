"""Windows are what looking at every event says, straight from the events and out of tiles."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from feature_store.definitions.schema import FeatureSchema
from feature_store.definitions.schema_changes import schema_changes
from feature_store.definitions.window_totals import sums_of_events, sums_of_tiles, tiles_of
from feature_store.definitions.windowed_view import ActivityView
from feature_store.errors import DefinitionError, InvalidEvent, SchemaMismatch
from feature_store.feature_definitions import MODEL_VIEW, USER_ACTIVITY, VIEWS
from feature_store.offline.events import ActivityEvent
from feature_store.online.windowed_row_codec import ActivityCodec, ActivityRows
from tests.worlds.strategies import bits
from tests.worlds.windows import (
    DAY,
    HOUR,
    INSTANT,
    NOON,
    PLAN,
    SCHEMA,
    arrays,
    event_lists,
    expected,
    moments,
    us,
    vector,
)

CODEC = ActivityCodec(SCHEMA)
MONTH = 30 * DAY


def event(time: datetime, name: str = "e", cents: int | None = 250) -> ActivityEvent:
    return ActivityEvent(name, 1, time, "purchase", cents)


def values_at(events: list[ActivityEvent], *times: datetime) -> tuple[np.ndarray, list[bool]]:
    """Values of user 1 at some times, straight from the events."""
    asked = np.array([us(time) for time in times])
    sums, found = sums_of_events(PLAN, arrays(events), np.ones(len(times), dtype=np.int64), asked)
    return PLAN.values(sums), found.tolist()


def feature(values: np.ndarray, name: str) -> list[float]:
    return values[:, SCHEMA.position(name)].tolist()


def test_features_are_named_by_rule() -> None:
    assert SCHEMA.names == tuple(
        f"{what}_{window}"
        for what in ("events_count", "purchases_count", "amount_sum", "amount_mean")
        for window in ("1d", "7d", "30d")
    )
    names = [name for view in VIEWS for name in view.schema.names]
    assert len(set(names)) == len(names)


def test_the_fingerprint_of_the_other_view_is_what_it_was() -> None:
    assert MODEL_VIEW.schema.fingerprint == "a82c0d843a8acae1"
    assert not MODEL_VIEW.schema.is_windowed


@pytest.mark.parametrize(
    ("facts", "change"),
    [
        ({"windows": {"7d": "1h"}}, "hop 1d → 1h"),
        ({"ttl": "20d"}, "ttl 30d → 20d"),
        ({"event_type": "view"}, "event_type any → view"),
    ],
)
def test_whatever_changes_the_meaning_changes_the_fingerprint(
    facts: dict[str, object], change: str
) -> None:
    def view(event_type: str = "any", **given: object) -> FeatureSchema:
        made = ActivityView("a", "k", **({"windows": {"7d": "1d"}, "ttl": "30d"} | given))  # type: ignore[arg-type]
        made.count("events", event_type=event_type, description="Events")
        return made.schema

    old, new = view(), view(**facts)  # type: ignore[arg-type]
    assert old.fingerprint != new.fingerprint
    assert schema_changes(old.meaning, new.meaning) == [
        f"feature 'events_count_7d' changed: {change}"
    ]
    assert FeatureSchema.from_meaning("a", new.meaning).fingerprint == new.fingerprint


def test_a_window_that_its_hop_does_not_divide_is_refused() -> None:
    view = ActivityView("a", "k", windows={"36h": "1d"}, ttl="30d")
    with pytest.raises(DefinitionError, match="a window is a multiple of its hop"):
        view.count("events", description="Events")
    with pytest.raises(DefinitionError, match="'3w' is no span of time"):
        ActivityView("a", "k", windows={"3w": "1d"}, ttl="30d").count("n", description="Events")


def test_the_window_begins_at_a_hop_and_ends_just_before_the_asked_time() -> None:
    values, _ = values_at([event(NOON)], NOON, NOON + INSTANT)
    assert feature(values, "events_count_1d") == [0, 1]
    # At a quarter past twelve the window of a day still begins at twelve.
    late = [NOON + DAY + timedelta(minutes=59, seconds=59), NOON + DAY + HOUR]
    assert feature(values_at([event(NOON)], *late)[0], "events_count_1d") == [1, 0]
    midnight = NOON + 12 * HOUR
    week = [midnight + 7 * DAY - INSTANT, midnight + 7 * DAY]
    assert feature(values_at([event(NOON)], *week)[0], "events_count_7d") == [1, 0]


def test_an_entity_is_found_until_its_newest_event_is_older_than_the_ttl() -> None:
    values, found = values_at([event(NOON)], NOON, NOON + MONTH, NOON + MONTH + INSTANT)
    assert found == [False, True, False]
    assert feature(values, "events_count_30d")[1] == 1


def test_a_window_without_events_holds_zeros_and_no_mean() -> None:
    values, found = values_at([event(NOON)], NOON + 20 * DAY)
    assert found == [True]
    assert feature(values, "amount_sum_7d") == [0]
    assert feature(values, "events_count_7d") == [0]
    assert np.isnan(feature(values, "amount_mean_7d"))
    assert feature(values, "amount_mean_30d") == [2.5]


def test_events_without_an_amount_count_and_have_no_part_in_the_mean() -> None:
    values, _ = values_at([event(NOON, "a", 300), event(NOON, "b", None)], NOON + HOUR)
    assert feature(values, "events_count_1d") == [2]
    assert feature(values, "amount_mean_1d") == [3]


def march(day: int, hour: int = 0, minute: int = 0, microsecond: int = 0) -> datetime:
    return datetime(2026, 3, 1, hour, minute, 0, microsecond, tzinfo=UTC) + (day - 1) * DAY


NAN = float("nan")


@pytest.mark.parametrize(
    ("asked", "values"),
    [
        (march(6, 10), None),
        (march(6, 10, 0, 1), [1, 1, 12.5, 12.5]),
        (march(7, 10, 59), [1, 1, 12.5, 12.5]),
        (march(7, 11), [0, 1, 12.5, 12.5]),
        (march(13, 15), [0, 2, 12.5, 12.5]),
        (march(13, 15, 1), [1, 3, 16.5, 8.25]),
        (march(14), [1, 2, 4, 4]),
        (march(31 + 12, 15), [0, 0, 0, NAN]),
        (march(31 + 12, 15, 0, 1), None),
    ],
)
def test_the_example_of_the_documentation_holds(
    asked: datetime, values: list[float] | None
) -> None:
    events = [
        event(march(6, 10), "a", 1250),
        ActivityEvent("b", 1, march(10, 9), "view", None),
        event(march(13, 15), "c", 400),
    ]
    got, [found] = values_at(events, asked)
    assert found == (values is not None)
    if values is not None:
        shown = ["events_count_1d", "events_count_7d", "amount_sum_7d", "amount_mean_7d"]
        np.testing.assert_array_equal([feature(got, name)[0] for name in shown], values)


@settings(max_examples=300)
@given(event_lists(), st.lists(st.tuples(st.integers(1, 4), moments()), min_size=1, max_size=8))
def test_windows_are_what_looking_at_every_event_says(
    events: list[ActivityEvent], asked: list[tuple[int, datetime]]
) -> None:
    keys = np.array([key for key, _ in asked])
    times = [time for _, time in asked]
    times += [events[0].time, events[0].time + MONTH]  # exactly at an event, exactly the TTL after
    keys = np.append(keys, [events[0].key] * 2)
    whole = np.array([us(time) for time in times])
    sums, found = sums_of_events(PLAN, arrays(events), keys, whole)
    for row, values in enumerate(PLAN.values(sums)):
        right = expected(events, int(keys[row]), times[row])
        assert found[row] == (right is not None)
        if right is not None:
            assert bits(values).tolist() == bits(vector(right)).tolist()


@settings(max_examples=300)
@given(event_lists(), st.data())
def test_what_was_not_known_then_does_not_count(events: list[ActivityEvent], data) -> None:
    delays = data.draw(
        st.lists(
            st.sampled_from([timedelta(0), INSTANT, HOUR, 9 * DAY, 60 * DAY]),
            min_size=len(events),
            max_size=len(events),
        )
    )
    created = [e.time + delay for e, delay in zip(events, delays, strict=True)]
    times = [*data.draw(st.lists(moments(), min_size=1, max_size=5)), created[0], created[-1]]
    keys = np.ones(len(times), dtype=np.int64)
    whole = np.array([us(time) for time in times])
    sums, found = sums_of_events(PLAN, arrays(events, created), keys, whole, known=True)
    for row, values in enumerate(PLAN.values(sums)):
        known = [e for e, at in zip(events, created, strict=True) if at <= times[row]]
        right = expected(known, 1, times[row])
        assert found[row] == (right is not None)
        if right is not None:
            assert bits(values).tolist() == bits(vector(right)).tolist()


@settings(max_examples=300)
@given(event_lists(), st.lists(moments(), min_size=1, max_size=8))
def test_tiles_give_the_same_bits_at_any_time_after_the_newest_event(
    events: list[ActivityEvent], times: list[datetime]
) -> None:
    keys, newest, tiles = tiles_of(PLAN, arrays(events))
    for time in [*times, max(e.time for e in events) + INSTANT]:
        at = np.maximum(us(time), newest + 1)
        out_of_tiles = PLAN.values(sums_of_tiles(PLAN, tiles, newest, at))
        from_events = PLAN.values(sums_of_events(PLAN, arrays(events), keys, at)[0])
        assert bits(out_of_tiles).tolist() == bits(from_events).tolist()


@settings(max_examples=200)
@given(event_lists(), moments())
def test_a_packed_row_reads_as_the_values_of_that_time(
    events: list[ActivityEvent], now: datetime
) -> None:
    rows = ActivityRows.of(PLAN, arrays(events))
    packed = CODEC.encode(rows.values, rows.keys, rows.times, np.datetime64("2026-05-01", "us"))
    for key, newest, one in zip(rows.keys.tolist(), rows.times.view(np.int64), packed, strict=True):
        row = CODEC.decode(key, one, now)
        at = max(now, NOON.fromtimestamp(0, NOON.tzinfo) + (int(newest) + 1) * INSTANT)
        right = expected(events, key, at)
        assert row.event_time_us == newest
        if right is not None:
            assert bits(row.vector).tolist() == bits(vector(right)).tolist()


def test_a_row_decays_without_a_write() -> None:
    rows = ActivityRows.of(PLAN, arrays([event(NOON, "a"), event(NOON - 3 * DAY, "b")]))
    [packed] = CODEC.encode(rows.values, rows.keys, rows.times, np.datetime64("2026-05-01", "us"))
    ages = [HOUR, 2 * DAY, 5 * DAY, 8 * DAY, 29 * DAY]
    seen = [CODEC.decode(1, packed, NOON + age).vector for age in ages]
    assert [v[SCHEMA.position("events_count_1d")] for v in seen] == [1, 0, 0, 0, 0]
    assert [v[SCHEMA.position("events_count_7d")] for v in seen] == [2, 2, 1, 0, 0]
    assert [v[SCHEMA.position("events_count_30d")] for v in seen] == [2, 2, 2, 2, 1]


def test_a_row_of_another_user_another_schema_or_another_length_is_refused() -> None:
    rows = ActivityRows.of(PLAN, arrays([event(NOON)]))
    [packed] = CODEC.encode(rows.values, rows.keys, rows.times, np.datetime64("2026-05-01", "us"))
    with pytest.raises(SchemaMismatch, match="answered with the row of 1"):
        CODEC.decode(2, packed)
    for broken in (packed[:-1], packed + b"x", packed[:30], b"", b"\0" * 8 + packed[8:]):
        with pytest.raises(SchemaMismatch, match="was written for schema"):
            CODEC.decode(1, broken)


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"event_id": ""}, "its id and its type"),
        ({"event_type": "a\0b"}, "its id and its type"),
        ({"event_id": "e" * 201}, "its id and its type"),
        ({"time": NOON.replace(tzinfo=None)}, "its time has no zone"),
        ({"key": 2**63}, "its user is no 64-bit number"),
        ({"amount_cents": 10**13}, "its amount is beyond"),
    ],
)
def test_an_event_that_cannot_be_stored_is_refused(facts: dict[str, object], why: str) -> None:
    right = {"event_id": "e", "key": 1, "time": NOON, "event_type": "view", "amount_cents": 1}
    with pytest.raises(InvalidEvent, match=why):
        ActivityEvent(**(right | facts))  # type: ignore[arg-type]


def test_the_view_says_when_it_expires() -> None:
    assert USER_ACTIVITY.plan.ttl == MONTH
    assert USER_ACTIVITY.plan.tiles == 25 + 31
