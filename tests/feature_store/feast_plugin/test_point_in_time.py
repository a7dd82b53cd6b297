"""Point-in-time answers against looking at every row: the join alone, and out of PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st

from feature_store.definitions.engine import FeatureMatrix
from feature_store.feast_plugin.offline.point_in_time import NewestRows
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline import tables
from feature_store.offline.postgres import BLOCK_BYTES, Postgres, copy_into
from feature_store.offline_store import OfflineStore, missing_vector
from tests.worlds.strategies import bits

Event = tuple[int, int, int]
"""Key, event time and created time."""

EVENT = st.tuples(st.integers(1, 3), st.integers(0, 9), st.integers(0, 9))
EVENTS = st.lists(EVENT, max_size=20)
ASKED = st.lists(st.tuples(st.integers(1, 4), st.none() | st.integers(-1, 11)), max_size=20)
TTLS = st.none() | st.integers(0, 5)
START = np.datetime64("2026-01-01", "us")
SECOND = np.timedelta64(1, "s")
SCHEMA = MODEL_VIEW.schema


def oracle(
    key: int,
    time: int | None,
    events: list[Event],
    ttl: int | None = None,
    known: bool = False,
    known_by: int | None = None,
) -> tuple[int, int] | None:
    """(event time, created time) of the row that counts, found by looking at all of them."""
    if time is None:
        return None
    found = [(e, c) for k, e, c in events if k == key and e <= time]
    found = [(e, c) for e, c in found if ttl is None or time - e <= ttl]
    found = [(e, c) for e, c in found if not known or c <= time]
    found = [(e, c) for e, c in found if known_by is None or c <= known_by]
    return max(found, default=None)


def moments(seconds: list[int | None]) -> np.ndarray:
    """Times some seconds after the start; None is no time."""
    nat = np.datetime64("NaT", "us")
    return np.array([nat if n is None else START + n * SECOND for n in seconds], dtype="M8[us]")


def span(seconds: int | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


@given(events=EVENTS, asked=ASKED, ttl=TTLS, known=st.booleans(), size=st.integers(1, 20))
def test_the_join_agrees_with_looking_at_every_row(
    events: list[Event],
    asked: list[tuple[int, int | None]],
    ttl: int | None,
    known: bool,
    size: int,
) -> None:
    keys = np.array([key for key, _ in asked], dtype=np.int64)
    newest = NewestRows(keys, moments([time for _, time in asked]), span(ttl), known=known)
    noted: dict[int, Event] = {}
    for start in range(0, len(events), size):
        block = events[start : start + size]
        stored_keys = np.array([key for key, _, _ in block], dtype=np.int64)
        times = (moments([event[n] for event in block]) for n in (1, 2))
        rows, places = newest.add(stored_keys, *times)
        assert len(set(places.tolist())) == len(rows)
        noted |= {place: block[row] for row, place in zip(rows, places, strict=True)}
    answers = [None if place < 0 else noted[place][1:] for place in newest.answers().tolist()]
    assert answers == [oracle(key, time, events, ttl, known) for key, time in asked]


def test_of_rows_alike_in_both_times_the_last_counts() -> None:
    newest = NewestRows(np.array([1]), START[np.newaxis])
    twice = np.array([START, START])
    rows, _ = newest.add(np.array([1, 1]), twice, twice)
    assert rows.tolist() == [1]
    rows, _ = newest.add(np.array([1]), twice[:1], twice[:1])
    assert rows.tolist() == [0]


@pytest.fixture(params=[1, BLOCK_BYTES], ids=["one row a block", "all rows in a block"])
def store(request: pytest.FixtureRequest, postgres: Postgres) -> OfflineStore:
    """A store without rows that reads in blocks of a given size."""
    store = OfflineStore(Postgres(postgres.url, request.param))
    store.versions.register(SCHEMA, MODEL_VIEW.entity)
    return store


def store_events(store: OfflineStore, events: list[Event]) -> None:
    """Make the events the table's only rows; the first feature tells them apart."""
    values = np.zeros((len(events), len(SCHEMA)), dtype=np.float32)
    values[:, 0] = np.arange(len(events))
    keys = np.array([key for key, _, _ in events], dtype=np.int64)
    times, created = (moments([event[n] for event in events]) for n in (1, 2))
    columns = tables.copy_columns(FeatureMatrix(values, keys, times, SCHEMA), "user_id", created)
    table = tables.table_name(SCHEMA)
    with store.postgres.transaction() as connection:
        connection.execute(f"DELETE FROM {table}")
        copy_into(connection, table, [columns])


@hypothesis_settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    events=st.lists(EVENT, unique=True, max_size=20),
    asked=ASKED,
    ttl=TTLS,
    known_by=st.none() | st.integers(0, 9),
)
def test_the_store_agrees_with_looking_at_every_row(
    store: OfflineStore,
    events: list[Event],
    asked: list[tuple[int, int | None]],
    ttl: int | None,
    known_by: int | None,
) -> None:
    store_events(store, events)
    keys = np.array([key for key, _ in asked], dtype=np.int64)
    times = moments([time for _, time in asked])
    until = None if known_by is None else aware(known_by)
    matrix, found = store.historical(SCHEMA, "user_id", keys, times, ttl=span(ttl), known_by=until)
    expected = [oracle(key, time, events, ttl, known_by=known_by) for key, time in asked]
    rows = matrix.values[:, 0].tolist()
    assert [
        events[int(row)][1:] if is_found else None
        for row, is_found in zip(rows, found, strict=True)
    ] == expected
    assert matrix.keys is keys
    missing = bits(missing_vector(SCHEMA))
    assert all(np.array_equal(bits(row), missing) for row in matrix.values[~found])


def aware(seconds: int) -> datetime:
    return (START + seconds * SECOND).item().replace(tzinfo=UTC)


def test_nobody_asked_is_nobody_answered(store: OfflineStore) -> None:
    matrix, found = store.historical(
        SCHEMA, "user_id", np.array([], dtype=np.int64), np.array([], dtype="M8[us]")
    )
    assert matrix.values.shape == (0, len(SCHEMA))
    assert len(found) == 0
