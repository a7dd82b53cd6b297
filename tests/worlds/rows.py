"""Rows of users: made up, or the first of the real data."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from benchmarks.harness.stage import real_rows
from configs.settings import load_settings
from feature_store.definitions.engine import Engine, FeatureMatrix
from feature_store.definitions.schema import MISSING
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.training_data import TrainingRows, decoded_column

ENGINE = Engine(MODEL_VIEW)
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
USERS = 300
FIRST_ROW = {
    **{"age": 39, "workclass": "State-gov", "fnlwgt": 77516, "education": "Bachelors"},
    **{"education_num": 13, "marital_status": "Never-married", "occupation": "Adm-clerical"},
    **{"relationship": "Not-in-family", "race": "White", "sex": "Male", "capital_gain": 2174},
    **{"capital_loss": 0, "hours_per_week": 40, "native_country": "United-States"},
}


def random_columns(n: int) -> dict[str, np.ndarray]:
    """Encoded columns ``(n,)`` with one value in ten missing and some unseen; seeded."""
    random = np.random.default_rng(20)
    columns: dict[str, np.ndarray] = {}
    for feature in MODEL_VIEW.raw_features:
        if feature.kind == "category":
            columns[feature.name] = random.integers(0, len(feature.categories) + 2, n)
        else:
            low, high = feature.valid_range or (0, 1)
            numbers = random.integers(int(low), int(high) + 1, n).astype(np.float32)
            columns[feature.name] = np.where(random.random(n) < 0.1, np.float32(np.nan), numbers)
    return columns


def random_matrix(n: int = USERS, apart: str = "m") -> FeatureMatrix:
    """Features of random users 1…n, some values missing or unseen, a unit of time apart."""
    keys = np.arange(1, n + 1, dtype=np.int64)
    times = np.datetime64("2026-01-01", "us") + keys * np.timedelta64(1, apart)
    return FeatureMatrix(ENGINE.table(random_columns(n)), keys, times, MODEL_VIEW.schema)


def missing_in(vector: np.ndarray) -> list[str]:
    """Names of the raw columns that are missing in a vector ``(p,)``, one by one."""
    schema = MODEL_VIEW.schema
    return [
        feature.name
        for feature, value in zip(schema.features, vector.tolist(), strict=True)
        if not feature.inputs
        and (math.isnan(value) or (feature.kind == "category" and value == MISSING))
    ]


def first_rows(n: int) -> TrainingRows:
    """The first rows of the raw file, as the offline store would give them."""
    matrix, labels = real_rows(load_settings(), n)
    return TrainingRows(matrix, labels.values)


def decoded_frame(
    rows: TrainingRows, entity: str, label_column: str
) -> tuple[pd.DataFrame, pd.Series]:
    """Training rows as words and numbers, None and NaN for missing."""
    index = pd.Index(rows.features.keys, name=entity)
    columns = {
        feature.name: decoded_column(rows.features, place)
        for place, feature in enumerate(rows.features.schema.features)
    }
    return pd.DataFrame(columns, index=index), pd.Series(rows.labels, index, name=label_column)
