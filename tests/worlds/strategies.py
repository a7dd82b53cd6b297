"""Random raw rows: valid, missing and unseen values of every raw column."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from feature_store.definitions.schema import FeatureDefinition
from feature_store.feature_definitions import MODEL_VIEW


def raw_values(feature: FeatureDefinition) -> st.SearchStrategy[Any]:
    """Values of one raw column: valid ones, None for missing, and words nobody defined."""
    if feature.kind == "category":
        return st.none() | st.just("never seen before") | st.sampled_from(feature.categories)
    low, high = feature.valid_range or (-1e6, 1e6)
    return st.none() | st.integers(int(low), int(high))


def raw_rows() -> st.SearchStrategy[dict[str, Any]]:
    """Whole rows; every column is there, perhaps as None."""
    return st.fixed_dictionaries({f.name: raw_values(f) for f in MODEL_VIEW.raw_features})


def encoded(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """The same rows as encoded columns."""
    columns: dict[str, np.ndarray] = {}
    for feature in MODEL_VIEW.raw_features:
        values = [row[feature.name] for row in rows]
        if feature.kind == "category":
            columns[feature.name] = np.array([feature.encode(v) for v in values], dtype=np.int64)
        else:
            numbers = [np.nan if value is None else value for value in values]
            columns[feature.name] = np.array(numbers, dtype=np.float32)
    return columns


def bits(values: np.ndarray) -> np.ndarray:
    """The bits of float32 values: NaN equals NaN only when it is the same one."""
    return np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
