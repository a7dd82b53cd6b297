"""The offline store: append-only, exactly once, and point-in-time truth."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from feature_store.definitions.engine import FeatureMatrix
from feature_store.errors import FeatureStoreError, SchemaMismatch, StoreUnavailable
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline.postgres import Postgres
from feature_store.offline_store import Labels, OfflineStore, QuarantinedRow, missing_vector
from feature_store.training_data import training_rows
from tests.worlds.rows import MONDAY, decoded_frame
from tests.worlds.strategies import bits

HOUR = np.timedelta64(1, "h")
SCHEMA = MODEL_VIEW.schema


def labels_of(matrix: FeatureMatrix) -> Labels:
    return Labels(matrix.keys, (matrix.keys % 3 == 0).astype(np.int8), matrix.times)


def test_what_is_appended_is_read_back_to_the_bit(
    offline: OfflineStore, matrix: FeatureMatrix
) -> None:
    assert offline.append(matrix, "user_id", MONDAY) == 300
    found, present = offline.historical(SCHEMA, "user_id", matrix.keys, matrix.times)
    assert present.all()
    assert np.array_equal(bits(found.values), bits(matrix.values))


def test_appending_twice_adds_nothing(offline: OfflineStore, matrix: FeatureMatrix) -> None:
    offline.append(matrix, "user_id", MONDAY)
    assert offline.append(matrix, "user_id", MONDAY + timedelta(days=1)) == 0


def test_a_changed_row_is_added_and_the_old_one_kept(
    offline: OfflineStore, matrix: FeatureMatrix
) -> None:
    offline.append(matrix, "user_id", MONDAY)
    values = matrix.values.copy()
    values[4, 0] += 1
    tuesday = MONDAY + timedelta(days=1)
    assert offline.append(replace(matrix, values=values), "user_id", tuesday) == 1

    keys, times = matrix.keys[4:5], matrix.times[4:5]
    now, _ = offline.historical(SCHEMA, "user_id", keys, times)
    then, _ = offline.historical(SCHEMA, "user_id", keys, times, known_by=MONDAY)
    assert now.values[0, 0] == matrix.values[4, 0] + 1
    assert then.values[0, 0] == matrix.values[4, 0]


def test_going_back_to_an_older_value_is_a_change(
    offline: OfflineStore, matrix: FeatureMatrix
) -> None:
    changed = replace(matrix, values=matrix.values + np.float32(1))
    for day, version in enumerate([matrix, changed, matrix]):
        assert offline.append(version, "user_id", MONDAY + timedelta(days=day)) == 300
    found, _ = offline.historical(SCHEMA, "user_id", matrix.keys, matrix.times)
    assert np.array_equal(bits(found.values), bits(matrix.values))


def test_of_duplicates_in_one_batch_the_last_counts(
    offline: OfflineStore, matrix: FeatureMatrix
) -> None:
    twice = FeatureMatrix(
        np.concatenate([matrix.values + np.float32(1), matrix.values]),
        np.concatenate([matrix.keys, matrix.keys]),
        np.concatenate([matrix.times, matrix.times]),
        SCHEMA,
    )
    assert offline.append(twice, "user_id", MONDAY) == 300
    found, _ = offline.historical(SCHEMA, "user_id", matrix.keys, matrix.times)
    assert np.array_equal(bits(found.values), bits(matrix.values))


def test_blocks_are_appended_as_one_and_of_duplicates_in_them_the_last_counts(
    offline: OfflineStore, matrix: FeatureMatrix
) -> None:
    changed = replace(matrix, values=matrix.values + np.float32(1))
    blocks = [changed.rows(slice(0, 200)), changed.rows(slice(200, 300)), matrix]
    assert offline.append_blocks(SCHEMA, "user_id", [(block, MONDAY) for block in blocks]) == 300
    assert offline.append_blocks(SCHEMA, "user_id", [(block, MONDAY) for block in blocks]) == 0
    assert offline.append_blocks(SCHEMA, "user_id", []) == 0
    found, _ = offline.historical(SCHEMA, "user_id", matrix.keys, matrix.times)
    assert np.array_equal(bits(found.values), bits(matrix.values))


def test_blocks_that_end_with_an_error_leave_nothing(
    offline: OfflineStore, matrix: FeatureMatrix
) -> None:
    def broken() -> Iterator[tuple[FeatureMatrix, datetime]]:
        yield matrix, MONDAY
        raise OSError("the source died")

    with pytest.raises(OSError, match="the source died"):
        offline.append_blocks(SCHEMA, "user_id", broken())
    _, found = offline.historical(SCHEMA, "user_id", matrix.keys, matrix.times)
    assert not found.any()


def test_two_writers_at_once_add_each_row_once(
    offline: OfflineStore, matrix: FeatureMatrix
) -> None:
    added: list[int] = []
    write = lambda day: added.append(  # noqa: E731
        offline.append(matrix, "user_id", MONDAY + timedelta(days=day))
    )
    threads = [threading.Thread(target=write, args=(day,)) for day in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(added) == [0, 0, 0, 300]


def test_features_are_those_at_or_before_the_asked_time(
    offline: OfflineStore, matrix: FeatureMatrix
) -> None:
    changed = replace(matrix, values=matrix.values + np.float32(1), times=matrix.times + 10 * HOUR)
    offline.append(matrix, "user_id", MONDAY)
    offline.append(changed, "user_id", MONDAY)
    keys = np.array([5, 5, 5, 5, 999, 5])
    start = matrix.times[4]
    times = start + np.array([-1, 0, 9, 10, 3, 500]) * HOUR
    found, present = offline.historical(SCHEMA, "user_id", keys, times)
    assert present.tolist() == [False, True, True, True, False, True]
    expected = [missing_vector(SCHEMA), *[matrix.values[4]] * 2, changed.values[4]]
    expected += [missing_vector(SCHEMA), changed.values[4]]
    assert np.array_equal(bits(found.values), bits(np.array(expected)))
    assert found.keys.tolist() == keys.tolist()


def test_a_row_older_than_the_ttl_is_missing_and_one_just_as_old_is_not(
    offline: OfflineStore, matrix: FeatureMatrix
) -> None:
    offline.append(matrix, "user_id", MONDAY)
    times = matrix.times[:2] + np.array([5 * 3_600_000_000, 5 * 3_600_000_000 + 1], "m8[us]")
    _, present = offline.historical(
        SCHEMA, "user_id", matrix.keys[:2], times, ttl=timedelta(hours=5)
    )
    assert present.tolist() == [True, False]


def test_some_features_can_be_selected(offline: OfflineStore, matrix: FeatureMatrix) -> None:
    offline.append(matrix, "user_id", MONDAY)
    chosen = SCHEMA.select(["sex", "age"])
    found, _ = offline.historical(chosen, "user_id", matrix.keys, matrix.times)
    places = [SCHEMA.position("sex"), SCHEMA.position("age")]
    assert np.array_equal(bits(found.values), bits(matrix.values[:, places]))


def test_the_latest_row_of_every_entity(offline: OfflineStore, matrix: FeatureMatrix) -> None:
    changed = replace(matrix, values=matrix.values + np.float32(1), times=matrix.times + 10 * HOUR)
    offline.append(matrix, "user_id", MONDAY)
    offline.append(changed.rows(np.arange(3)), "user_id", MONDAY)
    latest = offline.latest(
        SCHEMA, "user_id", datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
    )
    assert latest.keys.tolist() == matrix.keys.tolist()
    assert np.array_equal(bits(latest.values[:3]), bits(changed.values[:3]))
    assert np.array_equal(bits(latest.values[3:]), bits(matrix.values[3:]))


def test_people_read_words_in_the_view(
    offline: OfflineStore, matrix: FeatureMatrix, postgres: Postgres
) -> None:
    offline.append(matrix, "user_id", MONDAY)
    frame = postgres.query("SELECT * FROM user_features ORDER BY user_id")
    for place in range(0, 300, 37):
        row = frame.row(place, named=True)
        decoded = SCHEMA.decode(matrix.values[place])
        assert {name: row[name] for name in SCHEMA.names} == decoded


def test_a_store_without_this_definition_says_what_to_run(offline: OfflineStore) -> None:
    with pytest.raises(SchemaMismatch, match=r"holds nothing of 'user_features'; .*feature_pipe"):
        offline.historical(SCHEMA, "user_id", np.array([1]), np.array(["2026-01-01"], "M8[us]"))


def test_labels_are_kept_once_and_corrections_added(
    offline: OfflineStore, matrix: FeatureMatrix
) -> None:
    labels = labels_of(matrix)
    assert offline.append_labels(labels, MONDAY) == 300
    assert offline.append_labels(labels, MONDAY + timedelta(days=1)) == 0
    corrected = replace(labels, values=1 - labels.values)
    assert offline.append_labels(corrected, MONDAY + timedelta(days=2)) == 300
    january = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    assert np.array_equal(offline.labels(*january).values, corrected.values)
    as_known_then = offline.labels(*january, known_by=MONDAY + timedelta(days=1))
    assert np.array_equal(as_known_then.values, labels.values)


def test_ranges_of_labels_are_half_open(offline: OfflineStore, matrix: FeatureMatrix) -> None:
    offline.append_labels(labels_of(matrix), MONDAY)
    start = datetime(2026, 1, 1, 1, tzinfo=UTC)
    assert offline.labels(start, start + timedelta(hours=3)).keys.tolist() == [1, 2, 3]


def test_training_rows_join_labels_with_features(
    offline: OfflineStore, matrix: FeatureMatrix
) -> None:
    offline.append(matrix.rows(matrix.keys > 10), "user_id", MONDAY)
    offline.append_labels(labels_of(matrix), MONDAY)
    span = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    rows = training_rows(offline, SCHEMA, "user_id", *span)
    assert rows.features.keys.tolist() == list(range(11, 301))
    assert np.array_equal(bits(rows.features.values), bits(matrix.values[10:]))
    assert np.array_equal(rows.labels, labels_of(matrix).values[10:])

    frame, series = decoded_frame(rows, "user_id", "income")
    assert (frame.shape, series.name, frame.index.name) == ((290, 47), "income", "user_id")
    assert str(frame["age"].dtype) == "Int64"
    known = SCHEMA.decode(matrix.values[10])["occupation"]
    assert frame["occupation"].iloc[0] == known


def test_a_store_into_which_nothing_came_says_what_to_run(offline: OfflineStore) -> None:
    with pytest.raises(FeatureStoreError, match=r"No labels in .* Run `python pipelines/feature_"):
        training_rows(offline, SCHEMA, "user_id", MONDAY, datetime(2031, 1, 1, tzinfo=UTC))


def test_an_empty_range_of_labels_is_one_clear_error(
    offline: OfflineStore, matrix: FeatureMatrix
) -> None:
    offline.append_labels(labels_of(matrix), MONDAY)
    with pytest.raises(FeatureStoreError, match=r"No labels in \[2030-01-01, 2031-01-01\)"):
        training_rows(
            offline,
            SCHEMA,
            "user_id",
            datetime(2030, 1, 1, tzinfo=UTC),
            datetime(2031, 1, 1, tzinfo=UTC),
        )
    with pytest.raises(FeatureStoreError, match="the end must be after the start"):
        training_rows(offline, SCHEMA, "user_id", MONDAY, MONDAY)


def test_refused_rows_are_quarantined_once(offline: OfflineStore, postgres: Postgres) -> None:
    rows = [QuarantinedRow("a.csv", 3, "age is -1, expected 0 to 120 years", {"age": "-1"})]
    assert offline.quarantine("user_features", rows) == 1
    assert offline.quarantine("user_features", rows) == 0
    assert postgres.query("SELECT reason, raw FROM quarantine").rows() == [
        ("age is -1, expected 0 to 120 years", '{"age": "-1"}')
    ]


def test_a_database_that_is_gone_is_one_clear_error() -> None:
    store = OfflineStore(Postgres("postgresql://nobody@127.0.0.1:1/none"))
    with pytest.raises(StoreUnavailable, match="PostgreSQL refused or went away"):
        store.labels(MONDAY, MONDAY + timedelta(days=1))
    with pytest.raises(StoreUnavailable, match="PostgreSQL refused or went away"):
        store.append_labels(
            Labels(*[np.zeros(1, dtype=np.int64)] * 2, np.zeros(1, "M8[us]")), MONDAY
        )
