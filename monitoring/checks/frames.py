"""Frames that people hand in, as this room takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_store.definitions.schema import FIRST_KNOWN, MISSING, UNSEEN
from models.artifact.profile import Histogram, Profile, ReferenceProfile, numbers
from monitoring.errors import MonitoringRefused

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

PREDICTED = {
    "prediction_id": None,
    "user_id": None,
    "predicted_at": ...,
    "probability": ...,
    "decision": ...,
    "arm": "champion",
    "model_version": "unknown",
}
"""Columns of predictions: those that must be there, and what stands for others."""
CAME_TRUE = {
    "prediction_id": None,
    "user_id": None,
    "label": ...,
    "label_time": None,
    "known_at": None,
}


def predictions_frame(frame: pd.DataFrame) -> pl.DataFrame:
    """Predictions as `monitoring.checks.outcomes.join_labels` takes them.

    Raises
    ------
    MonitoringRefused
        If a column is lacking that nothing can stand for.
    """
    return _frame(frame, PREDICTED)


def actuals_frame(frame: pd.DataFrame) -> pl.DataFrame:
    """Labels likewise."""
    return _frame(frame, CAME_TRUE)


def frame_profiles(
    reference: pd.DataFrame, current: pd.DataFrame
) -> tuple[ReferenceProfile, Profile]:
    """Count two frames with the same columns: numbers as they are, everything else as words.

    Columns that only one of them has are passed over.
    """
    names = [name for name in reference.columns if name in current.columns]
    is_number = {name: _is_number(reference[name], current[name]) for name in names}
    before = tuple(_of_column(str(name), reference[name], is_number[name]) for name in names)
    now = tuple(
        histogram.counted(_coded(current[name], reference[name], is_number[name]))
        for histogram, name in zip(before, names, strict=True)
    )
    empty = Histogram("probability", False, np.zeros(0), np.zeros(1, dtype=np.int64))
    return ReferenceProfile(Profile(before), empty, 0, 0, {}), Profile(now)


def _frame(frame: pd.DataFrame, columns: Mapping[str, Any]) -> pl.DataFrame:
    import polars as pl

    lacking = [n for n, usual in columns.items() if usual is ... and n not in frame.columns]
    if lacking:
        raise MonitoringRefused(
            f"The frame lacks {', '.join(lacking)}. It has: {', '.join(map(str, frame.columns))}."
        )
    kinds: dict[str, Any] = {
        "prediction_id": pl.String,
        "user_id": pl.Int64,
        "label": pl.Int16,
        **dict.fromkeys(
            ("predicted_at", "label_time", "known_at"), pl.Datetime("us", time_zone="UTC")
        ),
    }
    taken = pl.from_pandas(frame[[name for name in columns if name in frame.columns]])
    absent = {n: pl.lit(usual) for n, usual in columns.items() if n not in taken.columns}
    whole = taken.with_columns(**absent)
    return whole.with_columns(
        pl.col(name).cast(kind) for name, kind in kinds.items() if name in whole.columns
    )


def _is_number(reference: pd.Series, current: pd.Series) -> bool:
    """Whether a column holds numbers; where the reference holds nothing, the current one says."""
    import pandas as pd

    known = reference if reference.notna().any() else current
    if pd.api.types.is_bool_dtype(known):
        return False
    return bool(pd.api.types.is_numeric_dtype(known) or known.isna().all())


def _of_column(name: str, column: pd.Series, is_number: bool) -> Histogram:
    coded = _coded(column, column, is_number)
    if is_number:
        return numbers(name, coded)
    words = column.dropna().astype(str).nunique()
    return Histogram(name, True, np.zeros(0), np.zeros(words, dtype=np.int64)).counted(coded)


def _coded(column: pd.Series, reference: pd.Series, is_number: bool) -> np.ndarray[Any, Any]:
    """Numbers of a column, or codes of its words in the order of the reference's words."""
    import pandas as pd

    if is_number:
        values: np.ndarray[Any, Any] = pd.to_numeric(column, errors="coerce").to_numpy(
            dtype=np.float64, na_value=np.nan
        )
        return values
    words = sorted(reference.dropna().astype(str).unique())
    codes = {word: FIRST_KNOWN + place for place, word in enumerate(words)}
    found = column.astype(object).where(column.notna(), None)
    return np.array(
        [MISSING if word is None else codes.get(str(word), UNSEEN) for word in found],
        dtype=np.float64,
    )
