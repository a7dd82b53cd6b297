"""The feature pipeline end to end: raw files in, both stores filled, after imports."""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.harness import Report, interleaved, is_quick, seconds
from configs.settings import ROOT, Settings, load_settings
from feature_store import ingest, validation
from feature_store.connect import offline_store, online_store
from feature_store.engine import Engine
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.sources.files import read_rows
from infrastructure import embedded


def run_pipeline(settings: Settings) -> None:
    """What `pipelines/feature_pipeline.py` does, without its printing."""
    source = settings.feature.source
    rows = list(read_rows(source, ROOT))
    raw = ingest.parse(rows, MODEL_VIEW, source, settings.feature.event_time)
    matrix = ingest.engineer(raw, Engine(MODEL_VIEW))
    refused, _ = validation.check_features(matrix.schema, matrix.values)
    features, labels = ingest.good_rows(raw, matrix, refused | raw.reasons)
    created = datetime.now(UTC)
    offline = offline_store(settings)
    offline.append(features, MODEL_VIEW.entity, created)
    offline.append_labels(labels, created)
    online_store(settings).write(features, created)


def empty_stores(settings: Settings) -> None:
    """Forget everything that was stored."""
    with offline_store(settings).postgres.transaction() as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    online_store(settings).client.flushall()


def main() -> int:
    """Measure first runs (stores empty) and second runs (nothing is new), in turn."""
    report = Report("feature_pipeline", packages=["numpy", "psycopg", "redis", "polars"])
    with tempfile.TemporaryDirectory() as folder:
        # Its own servers, whatever the environment names: the stores are emptied between runs.
        settings = load_settings(var_dir=Path(folder) / "var", database_url=None, redis_url=None)
        try:
            first, again = seconds(lambda: run_pipeline(settings)), lambda: run_pipeline(settings)

            def from_empty() -> float:
                empty_stores(settings)
                return first()

            runs = interleaved(
                {"first_run": from_empty, "second_run": seconds(again)}, 2 if is_quick() else 7
            )
        finally:
            embedded.delete(settings)
    report.add("wall", "s", runs)
    report.target("first_run_wall", "<=", 4.0)
    report.target("second_run_wall", "<=", 4.0)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
