"""Many people made from the real ones: drawn again and perturbed, written a million at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from feature_store.definitions.engine import Column, Engine, FeatureMatrix
from feature_store.definitions.schema import FIRST_KNOWN, FeatureDefinition
from feature_store.feature_definitions import MODEL_VIEW

GROUP_ROWS = 131_072
BLOCK_ROWS = GROUP_ROWS * 4
SHAKEN = ("age", "fnlwgt", "capital_gain", "capital_loss", "hours_per_week")
"""Numbers that are changed by some per cent, and stay whole and in their range."""


def make_people(folder: Path, rows: int, real: FeatureMatrix) -> None:
    """Write ``features.parquet`` and ``attributes.parquet`` of so many people."""
    engine, random = Engine(MODEL_VIEW), np.random.default_rng(rows)
    folder.mkdir(parents=True, exist_ok=True)
    raw = dict(zip([f.name for f in engine.raw], engine.columns_of(real.values), strict=True))
    writers: dict[str, pq.ParquetWriter] = {}
    for start in range(0, rows, BLOCK_ROWS):
        n = min(BLOCK_ROWS, rows - start)
        people = _perturbed(raw, engine, n, random)
        keys = pa.array(np.arange(start + 1, start + n + 1, dtype=np.int64))
        values = engine.table(people)
        features = {name: values[:, place] for place, name in enumerate(engine.schema.names)}
        words = {f.name: _as_written(f, people[f.name]) for f in engine.raw}
        for name, columns in {"features": features, "attributes": words}.items():
            table = pa.table({MODEL_VIEW.entity: keys, **columns})
            if name not in writers:
                writers[name] = pq.ParquetWriter(folder / f"{name}.parquet", table.schema)
            writers[name].write_table(table, row_group_size=GROUP_ROWS)
    for writer in writers.values():
        writer.close()


def _perturbed(
    raw: dict[str, Column], engine: Engine, n: int, random: np.random.Generator
) -> dict[str, Column]:
    drawn = random.integers(0, len(raw["age"]), n)
    people = {name: column[drawn] for name, column in raw.items()}
    for feature in engine.raw:
        if feature.name in SHAKEN:
            low, high = feature.valid_range or (-np.inf, np.inf)
            noise = random.normal(1, 0.05, n).astype(np.float32)
            people[feature.name] = np.clip(np.rint(people[feature.name] * noise), low, high)
    return people


def _as_written(feature: FeatureDefinition, column: Column) -> pa.Array:
    """A raw column as people write it: words, whole numbers, null for what is missing."""
    if feature.kind == "category":
        words = pa.array([None] * FIRST_KNOWN + list(feature.categories))
        return words.take(pa.array(column))
    missing: NDArray[np.bool_] = np.isnan(column)
    return pa.array(np.where(missing, 0, column).astype(np.int64), mask=missing)
