"""Profile changes: what is stored depends on full rows and changes alone, to the bit."""

from __future__ import annotations

import math
import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st

from feature_store.errors import EntityNotFound, InvalidEvent
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline_store import OfflineStore
from feature_store.online_store import OnlineStore
from feature_store.profiles.fold import Changes, RawRows, fold, vectors
from feature_store.profiles.writer import ProfileChange, ProfileWriter
from tests.worlds.profile_oracle import ENGINE, FullRow, as_matrix, bring_in, state
from tests.worlds.rows import MONDAY
from tests.worlds.strategies import bits, raw_rows, raw_values

NOW = MONDAY + timedelta(days=100)
USERS = (1, 2, 3)
TIMES = [MONDAY + timedelta(microseconds=n) for n in range(6)]


@pytest.fixture
def writer(offline: OfflineStore, online: OnlineStore) -> ProfileWriter:
    return ProfileWriter(ENGINE, offline, online)


def change(key: int = 1, at: datetime = MONDAY, name: str = "", **attributes: Any) -> ProfileChange:
    return ProfileChange(name or uuid.uuid4().hex, key, at, attributes)


def append(writer: ProfileWriter, *rows: FullRow) -> None:
    """What the batch pipeline does with full rows."""
    matrix = as_matrix(rows)
    created = datetime.now(UTC)
    writer.offline.append(matrix, "user_id", created)
    writer.online.write(matrix, created)
    writer.reconcile(matrix.keys, matrix.times)


def history(
    writer: ProfileWriter, asked: Sequence[tuple[int, datetime]]
) -> list[np.ndarray | None]:
    """The offline rows of users as of some times."""
    keys = np.array([key for key, _ in asked], dtype=np.int64)
    times = np.array([at.replace(tzinfo=None) for _, at in asked], dtype="datetime64[us]")
    rows, found = writer.offline.historical(MODEL_VIEW.schema, "user_id", keys, times)
    return [vector if known else None for vector, known in zip(rows.values, found, strict=True)]


def online_row(writer: ProfileWriter, key: int) -> np.ndarray | None:
    try:
        return writer.online.read(key).vector
    except EntityNotFound:
        return None


def same(found: np.ndarray | None, expected: np.ndarray | None) -> bool:
    if found is None or expected is None:
        return found is expected
    return np.array_equal(bits(found), bits(expected))


def assert_is_what_the_oracle_says(
    writer: ProfileWriter, full: Sequence[FullRow], changes: Sequence[ProfileChange]
) -> None:
    once = list({each.event_id: each for each in changes}.values())
    asked = [(key, at) for key in USERS for at in TIMES]
    for (key, at), found in zip(asked, history(writer, asked), strict=True):
        assert same(found, state(key, at, full, once)), (key, at)
    for key in USERS:
        assert same(online_row(writer, key), state(key, TIMES[-1], full, once)), key


def full_rows() -> st.SearchStrategy[FullRow]:
    return st.builds(FullRow, st.sampled_from(USERS), st.sampled_from(TIMES), raw_rows())


def changes_of_some() -> st.SearchStrategy[ProfileChange]:
    related = ("education", "education_num", "age")
    features = {f.name: raw_values(f) for f in MODEL_VIEW.raw_features}
    some = st.fixed_dictionaries({}, optional={name: features[name] for name in related})
    any_of = st.fixed_dictionaries({}, optional=features)
    return st.builds(
        ProfileChange,
        st.uuids().map(str),
        st.sampled_from(USERS),
        st.sampled_from(TIMES),
        (some | any_of).filter(bool),
    )


@given(
    full=st.lists(full_rows(), max_size=4, unique_by=lambda row: (row.key, row.time)),
    changes=st.lists(changes_of_some(), min_size=1, max_size=12),
)
@hypothesis_settings(max_examples=150)
def test_the_state_after_each_change_is_what_a_fold_over_dictionaries_gives(
    full: list[FullRow], changes: list[ProfileChange]
) -> None:
    matrix = as_matrix(full)
    raw = np.stack(ENGINE.columns_of(matrix.values), axis=1).astype(np.float32)
    times = np.array([each.time.replace(tzinfo=None) for each in changes], dtype="datetime64[us]")
    rows = fold(
        ENGINE,
        RawRows(matrix.keys, matrix.times, raw),
        Changes(
            np.array([each.key for each in changes]),
            times,
            [each.event_id for each in changes],
            [each.attributes for each in changes],
        ),
    )
    found = dict(
        zip(
            zip(rows.places.tolist(), rows.times.tolist(), strict=True),
            vectors(ENGINE, rows),
            strict=True,
        )
    )
    assert len(found) == len({(each.key, each.time) for each in changes})
    for each in changes:
        vector = found[each.key, each.time.replace(tzinfo=None)]
        assert same(vector, state(each.key, each.time, full, changes)), each


@given(
    full=st.lists(full_rows(), max_size=4, unique_by=lambda row: (row.key, row.time)),
    changes=st.lists(changes_of_some(), min_size=1, max_size=8),
    seed=st.integers(0, 2**32),
)
@hypothesis_settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_split_and_repetition_ends_in_the_same_rows(
    new_writer: Callable[[], ProfileWriter],
    full: list[FullRow],
    changes: list[ProfileChange],
    seed: int,
) -> None:
    writer = new_writer()
    bring_in(writer, full, changes, append, random.Random(seed), NOW)
    assert_is_what_the_oracle_says(writer, full, changes)


@pytest.fixture
def new_writer(offline: OfflineStore, online: OnlineStore) -> Iterator[Callable[[], ProfileWriter]]:
    """Makes writers; the rows of the one before are gone."""

    def new() -> ProfileWriter:
        offline.versions.register(MODEL_VIEW.schema, "user_id")
        writer = ProfileWriter(ENGINE, offline, online)
        with offline.postgres.transaction() as connection:
            for table in (writer.table, "profile_changes"):
                connection.execute(f"DELETE FROM {table}")
        online.delete()
        return writer

    return new


def test_a_change_of_an_unknown_user_starts_from_nothing(writer: ProfileWriter) -> None:
    assert writer.apply([change(7, hours_per_week=50)], NOW) == 1
    expected = ENGINE.row({"hours_per_week": 50})
    assert same(online_row(writer, 7), expected)
    assert same(history(writer, [(7, MONDAY)])[0], expected)


def test_a_late_change_flows_into_later_rows_up_to_the_next_full_row(
    writer: ProfileWriter,
) -> None:
    append(writer, FullRow(1, TIMES[0], {"age": 30}), FullRow(1, TIMES[4], {"age": 60}))
    writer.apply([change(at=TIMES[2], hours_per_week=50), change(at=TIMES[3], age=40)], NOW)
    writer.apply([change(at=TIMES[1], age=35, fnlwgt=9)], NOW)
    rows = history(writer, [(1, at) for at in TIMES[:5]])
    expected = [
        {"age": 30},
        {"age": 35, "fnlwgt": 9},
        {"age": 35, "fnlwgt": 9, "hours_per_week": 50},
        {"age": 40, "fnlwgt": 9, "hours_per_week": 50},
        {"age": 60},
    ]
    assert all(same(row, ENGINE.row(each)) for row, each in zip(rows, expected, strict=True))
    assert same(online_row(writer, 1), ENGINE.row({"age": 60}))


def test_what_follows_from_a_changed_attribute_follows_anew(writer: ProfileWriter) -> None:
    append(writer, FullRow(1, TIMES[0], {"education": "HS-grad", "education_num": 9}))
    writer.apply([change(at=TIMES[1], education="Doctorate")], NOW)
    row = online_row(writer, 1)
    assert row is not None
    assert MODEL_VIEW.schema.decode(row)["education_num"] == 16


def test_a_full_row_appended_again_adds_nothing_beside_a_change_of_its_time(
    writer: ProfileWriter,
) -> None:
    row = FullRow(1, MONDAY, {"age": 30})
    append(writer, row)
    writer.apply([change(age=31)], NOW)
    assert writer.offline.append(as_matrix([row]), "user_id", datetime.now(UTC)) == 0
    assert writer.reconcile() == 0


def test_a_duplicate_writes_an_online_row_again_that_a_crash_lost(writer: ProfileWriter) -> None:
    one = change(age=31)
    assert writer.apply([one], NOW) == 1
    writer.online.client.delete(writer.online.key(1))
    assert writer.apply([one, one], NOW) == 0
    assert same(online_row(writer, 1), ENGINE.row({"age": 31}))


@pytest.mark.parametrize("other", [{"age": 32}, {"at": TIMES[3]}, {"key": 2}, {"sex": "Male"}])
def test_another_change_with_the_same_id_is_refused_with_all_that_came_with_it(
    writer: ProfileWriter, other: dict[str, Any]
) -> None:
    writer.apply([change(name="a", age=31)], NOW)
    with pytest.raises(InvalidEvent, match="event_id is 'a', which names another change already"):
        writer.apply(
            [change(name="fresh", fnlwgt=7), change(**{"name": "a", "age": 31, **other})],
            NOW,
        )
    assert same(online_row(writer, 1), ENGINE.row({"age": 31}))


def test_a_change_whose_time_has_not_passed_is_refused(writer: ProfileWriter) -> None:
    with pytest.raises(InvalidEvent, match="Hold it back"):
        writer.apply([change(at=NOW, age=31)], NOW)


def test_a_clock_that_was_set_back_lets_no_older_row_win(writer: ProfileWriter) -> None:
    writer.apply([change(at=TIMES[1], age=31)], NOW)
    with writer.offline.postgres.transaction() as connection:
        ahead = "created_timestamp = created_timestamp + interval '1 day'"
        connection.execute(f"UPDATE {writer.table} SET {ahead}")
    writer.apply([change(at=TIMES[0], fnlwgt=5)], NOW)
    assert same(history(writer, [(1, NOW)])[0], ENGINE.row({"age": 31, "fnlwgt": 5}))


def test_two_writers_at_once_leave_what_one_would(
    writer: ProfileWriter, offline: OfflineStore, online: OnlineStore
) -> None:
    changes = [
        change(key, TIMES[n % 6], f"{key}-{n}", age=20 + n) for key in USERS for n in range(24)
    ]
    writers = [ProfileWriter(ENGINE, offline, online) for _ in range(2)]
    with ThreadPoolExecutor() as threads:
        added = list(
            threads.map(
                lambda n: writers[n % 2].apply(random.Random(n).sample(changes, 48), NOW), range(8)
            )
        )
    assert sum(added) + writer.apply(changes, NOW) == len(changes)
    assert_is_what_the_oracle_says(writer, [], changes)


def test_all_changes_flow_into_a_new_version_of_the_view(writer: ProfileWriter) -> None:
    writer.apply([change(age=31), change(2, fnlwgt=5)], NOW)
    with writer.offline.postgres.transaction() as connection:
        connection.execute(f"DELETE FROM {writer.table}")
    assert writer.reconcile() == 2
    assert same(history(writer, [(1, NOW)])[0], ENGINE.row({"age": 31}))


def test_a_thousand_changes_take_well_under_a_second(writer: ProfileWriter) -> None:
    keys = range(1, 20_001)
    append(writer, *(FullRow(key, MONDAY, {"age": 30}) for key in keys))
    best = math.inf
    for n in range(5):
        at = MONDAY + timedelta(seconds=n + 1)
        changes = [change(key, at, age=40 + n) for key in random.Random(n).sample(keys, 1_000)]
        start = time.perf_counter()
        assert writer.apply(changes, NOW) == 1_000
        best = min(best, time.perf_counter() - start)
    assert best < 0.5
