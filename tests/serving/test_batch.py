"""Batch scoring: every row once, in order, and a file that is whole."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from feature_store.engine import FeatureMatrix
from feature_store.feature_definitions import MODEL_VIEW
from serving.batch import CHUNK_ROWS, ScoredBy, score, write_predictions

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
BY = ScoredBy("income-xgb-v1", "half", 0.5, ("no", "yes"), NOON)


class HalfOfTheFirst:
    """Answers half of the first feature, and remembers how many rows it got at once."""

    engine = "half"

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def predict(self, values: np.ndarray) -> np.ndarray:
        self.sizes.append(len(values))
        return values[:, 0] / np.float32(2)


def matrix(n: int) -> FeatureMatrix:
    values = np.zeros((n, len(MODEL_VIEW.schema)), dtype=np.float32)
    values[:, 0] = np.linspace(0, 2, n)
    keys = np.arange(1, n + 1, dtype=np.int64)
    return FeatureMatrix(values, keys, np.zeros(n, dtype="M8[us]"), MODEL_VIEW.schema)


def test_every_row_is_answered_once_in_order_and_progress_is_told() -> None:
    features, scorer, told = matrix(2 * CHUNK_ROWS + 5), HalfOfTheFirst(), []
    probabilities = score(features.values, scorer, told.append)
    assert np.array_equal(probabilities, features.values[:, 0] / 2)
    assert scorer.sizes == told == [CHUNK_ROWS, CHUNK_ROWS, 5]


def test_the_file_says_what_answered_and_when(tmp_path: Path) -> None:
    features = matrix(5)
    path = write_predictions(
        tmp_path, features, "user_id", score(features.values, HalfOfTheFirst(), id), BY
    )
    assert path == tmp_path / "date=2026-03-04" / "predictions.parquet"
    frame = pl.read_parquet(path)
    assert frame["user_id"].to_list() == [1, 2, 3, 4, 5]
    assert frame["probability"].to_list() == [0, 0.25, 0.5, 0.75, 1]
    assert frame["prediction"].to_list() == ["no", "no", "yes", "yes", "yes"]
    assert frame["schema_fingerprint"].unique().to_list() == [MODEL_VIEW.schema.fingerprint]
    assert frame["scored_at"].unique().to_list() == [NOON]
    assert set(frame.columns) >= {"model_version", "engine"}


def test_a_second_run_of_a_day_replaces_the_file_and_leaves_nothing_beside_it(
    tmp_path: Path,
) -> None:
    for n in (5, 3):
        features = matrix(n)
        probabilities = score(features.values, HalfOfTheFirst(), id)
        path = write_predictions(tmp_path, features, "user_id", probabilities, BY)
    assert len(pl.read_parquet(path)) == 3
    assert [each.name for each in path.parent.iterdir()] == ["predictions.parquet"]
