"""What several benchmarks stand on: servers of their own, and the real rows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.settings import Settings, load_settings
from feature_store.connect import offline_store, online_store, raw_source
from feature_store.definitions.engine import Engine, FeatureMatrix
from feature_store.definitions.horizon import Horizon
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.ingest import batches as ingest
from feature_store.offline_store import Labels
from infrastructure import embedded


@contextmanager
def servers() -> Iterator[Settings]:
    """Settings with an empty PostgreSQL and an empty Valkey, gone at the end."""
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(var_dir=Path(folder) / "var", database_url=None, redis_url=None)
        try:
            # Benchmarks make and empty tables of their own, as an administrator may.
            database, redis = embedded.admin_url(settings), embedded.redis_url(settings)
            yield load_settings(var_dir=settings.var_dir, database_url=database, redis_url=redis)
        finally:
            embedded.delete(settings)


def raw_columns(settings: Settings) -> dict[str, NDArray[Any]]:
    """The encoded raw columns of every real row."""
    config = settings.feature
    horizon = Horizon(datetime.now(UTC), config.max_ahead)
    tables = [
        ingest.parse(batch, MODEL_VIEW, config.source, config.event_time, horizon).columns
        for batch in raw_source(settings).read()
    ]
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def real_rows(settings: Settings, limit: int | None = None) -> tuple[FeatureMatrix, Labels]:
    """Features and labels of the real rows, all or the first ones."""
    config, engine = settings.feature, Engine(MODEL_VIEW)
    horizon = Horizon(datetime.now(UTC), config.max_ahead)
    matrices, labels = [], []
    for batch in raw_source(settings).read():
        table = ingest.parse(batch, MODEL_VIEW, config.source, config.event_time, horizon)
        good = ingest.good_rows(table, ingest.engineer(table, engine), table.reasons)
        matrices.append(good[0])
        labels.append(good[1])
    values, keys, times = (
        np.concatenate([getattr(matrix, name) for matrix in matrices])[:limit]
        for name in ("values", "keys", "times")
    )
    label_values = np.concatenate([each.values for each in labels])[:limit]
    return FeatureMatrix(values, keys, times, engine.schema), Labels(keys, label_values, times)


def filled_stores(settings: Settings) -> FeatureMatrix:
    """Fill both stores with the real rows, and return their features."""
    matrix, labels = real_rows(settings)
    created = datetime.now(UTC)
    offline = offline_store(settings)
    offline.append(matrix, MODEL_VIEW.entity, created)
    offline.append_labels(labels, created)
    online_store(settings).write(matrix, created)
    return matrix
