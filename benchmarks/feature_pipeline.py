"""The feature pipeline end to end: raw files in, both stores filled, after imports."""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from benchmarks.harness.report import Report, interleaved, is_quick, seconds
from configs.command_line import Stopwatch
from configs.settings import Settings, load_settings
from feature_store import versions
from feature_store.connect import offline_store, online_store, raw_source
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.ingest.compute import compute
from feature_store.ingest.materialize import materialize
from feature_store.ingest.staging import Staging
from feature_store.ingest.watermarks import Watermark
from infrastructure import embedded
from infrastructure.migrations import migrate


def run_pipeline(settings: Settings) -> None:
    """What `pipelines/feature_pipeline.py` does, without its printing."""
    offline, online = offline_store(settings), online_store(settings)
    source = raw_source(settings)
    watermark = Watermark(offline.postgres, MODEL_VIEW.schema, source.name)
    before, reading = watermark.position(), source.read()
    with offline.postgres.transaction() as connection:
        staging = Staging(connection, MODEL_VIEW.schema, MODEL_VIEW.entity)
        compute(
            reading, staging, MODEL_VIEW, settings.feature, None, Stopwatch(), datetime.now(UTC)
        )
        versions.start_fill(offline, online, MODEL_VIEW.entity)
        materialize(offline, online, staging.store().keys, datetime.now(UTC))
        versions.switch(offline, online, settings.feature.max_bad_share)
    watermark.advance(before, reading.position)


def empty_stores(settings: Settings) -> None:
    """Forget everything that was stored."""
    with psycopg.connect(embedded.admin_url(settings)) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public AUTHORIZATION pg_database_owner")
    migrate(embedded.postgres_url(embedded.as_owner(settings)))
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
