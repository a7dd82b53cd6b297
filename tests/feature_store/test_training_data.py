"""Training sets of past days: what the store knew then, whatever was corrected since."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st

from feature_store.definitions.engine import Engine, FeatureMatrix
from feature_store.definitions.view import FeatureView
from feature_store.errors import FeatureStoreError
from feature_store.offline.postgres import Postgres
from feature_store.offline_store import Labels, OfflineStore
from feature_store.references import Reference
from feature_store.training_data import TrainingRows, training_frame, training_rows

DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
SPAN = START, START + 30 * DAY

VIEW = FeatureView("people", "user_id")
VIEW.raw("height", unit="m", description="Body height.")
SCHEMA, ENGINE = VIEW.schema, Engine(VIEW)


@dataclass(frozen=True)
class Learned:
    """What the store learns at once: heights and labels of users as of days."""

    heights: list[tuple[int, int, float]]
    labels: list[tuple[int, int, int]]

    def append(self, offline: OfflineStore, at: datetime) -> None:
        if self.heights:
            keys, days, heights = (np.array(column) for column in zip(*self.heights, strict=True))
            values = ENGINE.table({"height": heights.astype(np.float32)})
            offline.append(FeatureMatrix(values, keys, moments(days), SCHEMA), "user_id", at)
        if self.labels:
            keys, days, labels = (np.array(column) for column in zip(*self.labels, strict=True))
            offline.append_labels(Labels(keys, labels.astype(np.int8), moments(days)), at)


def moments(days: np.ndarray) -> np.ndarray:
    return np.datetime64("2026-01-01", "us") + days * np.timedelta64(86_400_000_000, "us")


USERS, DAYS = st.integers(1, 4), st.integers(0, 9)
LEARNED = st.builds(
    Learned,
    st.lists(st.tuples(USERS, DAYS, st.sampled_from([1.5, 1.75, 2.0])), max_size=6).map(
        lambda rows: list({row[:2]: row for row in rows}.values())
    ),
    st.lists(st.tuples(USERS, DAYS, st.sampled_from([0, 1])), max_size=6).map(
        lambda rows: list({row[:2]: row for row in rows}.values())
    ),
)


def drawn(offline: OfflineStore, known_by: datetime | None) -> TrainingRows | None:
    """The training set; None where there is none."""
    try:
        return training_rows(offline, SCHEMA, "user_id", *SPAN, known_by=known_by)
    except FeatureStoreError:
        return None


def as_bytes(rows: TrainingRows | None) -> list[bytes]:
    if rows is None:
        return []
    parts = (rows.features.values, rows.features.keys, rows.features.times, rows.labels)
    return [part.tobytes() for part in parts]


@hypothesis_settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LEARNED, min_size=1, max_size=6))
def test_the_training_set_of_each_past_day_is_what_it_was_on_that_day(
    postgres: Postgres, story: list[Learned]
) -> None:
    offline = OfflineStore(postgres)
    with postgres.transaction() as connection:
        connection.execute("DELETE FROM labels")
        if offline.versions.current("people"):
            connection.execute(f"DELETE FROM {offline.table(SCHEMA)}")
    offline.versions.register(SCHEMA, "user_id")
    on_the_day = []
    for place, learned in enumerate(story):
        at = START + 40 * DAY + place * DAY
        learned.append(offline, at)
        on_the_day.append((at, as_bytes(drawn(offline, None))))

    for at, then in on_the_day:
        assert as_bytes(drawn(offline, at + DAY / 2)) == then


def test_a_frame_of_a_past_day_has_the_values_of_that_day(offline: OfflineStore) -> None:
    first, later = START + 40 * DAY, START + 41 * DAY
    Learned([(1, 0, 1.5)], [(1, 5, 0)]).append(offline, first)
    Learned([(1, 0, 1.75), (2, 0, 2.0)], [(1, 5, 1), (2, 5, 1)]).append(offline, later)

    references = [Reference(VIEW, "height")]
    then, labels = training_frame(offline, references, "late", *SPAN, known_by=first)
    assert then["height"].to_dict() == {1: 1.5}
    assert labels.to_dict() == {1: 0}
    now, labels = training_frame(offline, references, "late", *SPAN)
    assert now["height"].to_dict() == {1: 1.75, 2: 2.0}
    assert labels.to_dict() == {1: 1, 2: 1}


def test_a_day_before_the_store_knew_anything_is_refused(offline: OfflineStore) -> None:
    at = START + 40 * DAY
    Learned([], [(1, 5, 0)]).append(offline, at)
    Learned([(1, 0, 1.5)], []).append(offline, at + DAY)
    with pytest.raises(FeatureStoreError, match="No labels in"):
        training_rows(offline, SCHEMA, "user_id", *SPAN, known_by=at - DAY)
    with pytest.raises(FeatureStoreError, match="None of 1 labels has features that the store"):
        training_rows(offline, SCHEMA, "user_id", *SPAN, known_by=at)
    references = [Reference(VIEW, "height")]
    with pytest.raises(FeatureStoreError, match="None of 1 labels has features that the store"):
        training_frame(offline, references, "late", *SPAN, known_by=at)
