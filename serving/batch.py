"""Batch inference: many entities answered by the native engine, written as one whole file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from feature_store.engine import FeatureMatrix

CHUNK_ROWS = 16_384
"""Rows that are answered together: large enough for the engine, small enough to show progress."""


class Scorer(Protocol):
    """What answers many rows."""

    engine: str

    def predict(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probability of label 1, float32 ``(n,)``, for float32 ``(n, p)``."""


@dataclass(frozen=True)
class ScoredBy:
    """What answered a batch: it stands in every row of the output."""

    model_version: str
    engine: str
    threshold: float
    texts: tuple[str, str]
    scored_at: datetime


def score(
    values: NDArray[np.float32], scorer: Scorer, on_rows: Callable[[int], object]
) -> NDArray[np.float32]:
    """Answer ``(n, p)`` rows; ``on_rows`` is told how many more are done after each chunk."""
    probabilities = np.empty(len(values), dtype=np.float32)
    for start in range(0, len(values), CHUNK_ROWS):
        chunk = values[start : start + CHUNK_ROWS]
        probabilities[start : start + CHUNK_ROWS] = scorer.predict(chunk)
        on_rows(len(chunk))
    return probabilities


def write_predictions(
    folder: Path,
    features: FeatureMatrix,
    entity: str,
    probabilities: NDArray[np.float32],
    by: ScoredBy,
) -> Path:
    """Write ``date=YYYY-MM-DD/predictions.parquet`` below the folder; return the file.

    The file appears whole or not at all, and replaces the one of the same day.
    """
    import polars as pl

    n = len(features)
    positive = probabilities.astype(np.float64) >= by.threshold
    frame = pl.DataFrame(
        {
            entity: features.keys,
            "probability": probabilities,
            "prediction": np.where(positive, by.texts[1], by.texts[0]),
            "model_version": pl.repeat(by.model_version, n, eager=True),
            "engine": pl.repeat(by.engine, n, eager=True),
            "schema_fingerprint": pl.repeat(features.schema.fingerprint, n, eager=True),
            "scored_at": pl.repeat(by.scored_at, n, eager=True),
        }
    )
    path = folder / f"date={by.scored_at:%Y-%m-%d}" / "predictions.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{by.scored_at:%H%M%S%f}")
    frame.write_parquet(aside)
    aside.replace(path)
    return path
