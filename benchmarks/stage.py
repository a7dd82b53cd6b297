"""What several benchmarks stand on: servers of their own, and the real rows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from configs.settings import ROOT, Settings, load_settings
from feature_store import ingest
from feature_store.connect import offline_store, online_store
from feature_store.engine import Engine, FeatureMatrix
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline_store import Labels
from feature_store.sources.files import read_rows
from infrastructure import embedded


@contextmanager
def servers() -> Iterator[Settings]:
    """Settings with an empty PostgreSQL and an empty Valkey, gone at the end."""
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(var_dir=Path(folder) / "var", database_url=None, redis_url=None)
        try:
            database, redis = embedded.postgres_url(settings), embedded.redis_url(settings)
            yield load_settings(var_dir=settings.var_dir, database_url=database, redis_url=redis)
        finally:
            embedded.delete(settings)


def raw_table(settings: Settings) -> ingest.RawTable:
    """The raw rows, encoded."""
    source = settings.feature.source
    rows = list(read_rows(source, ROOT))
    return ingest.parse(rows, MODEL_VIEW, source, settings.feature.event_time)


def real_rows(settings: Settings) -> tuple[FeatureMatrix, Labels]:
    """Features and labels of every real row."""
    table = raw_table(settings)
    return ingest.good_rows(table, ingest.engineer(table, Engine(MODEL_VIEW)), table.reasons)


def filled_stores(settings: Settings) -> FeatureMatrix:
    """Fill both stores with the real rows, and return their features."""
    matrix, labels = real_rows(settings)
    created = datetime.now(UTC)
    offline = offline_store(settings)
    offline.append(matrix, MODEL_VIEW.entity, created)
    offline.append_labels(labels, created)
    online_store(settings).write(matrix, created)
    return matrix
