"""Writing a million rows, 47 features each, that are made block by block: time and flat memory.

Each write runs in a process of its own. ``rise`` is by how much its memory rose over the write,
the making of the blocks included; it must not grow with the rows.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np

from benchmarks.harness.memory import fresh_process, measured
from benchmarks.harness.report import Report, is_quick
from benchmarks.harness.stage import real_rows, servers
from configs.settings import Settings, load_settings
from feature_store.connect import offline_store, online_store
from feature_store.definitions.engine import FeatureMatrix
from feature_store.feature_definitions import MODEL_VIEW

BLOCK_ROWS = 20_000
SIZES, QUICK_SIZES = [100_000, 1_000_000], [20_000, 60_000]
CREATED = datetime(2026, 1, 1, tzinfo=UTC)
LARGEST_RISE_MIB = 64


def blocks(some: FeatureMatrix, rows: int, first_key: int) -> Iterator[FeatureMatrix]:
    """Rows of as many entities, their values drawn from some real ones."""
    random = np.random.default_rng(rows)
    for start in range(0, rows, BLOCK_ROWS):
        keys = first_key + np.arange(start, min(start + BLOCK_ROWS, rows))
        drawn = some.rows(random.integers(0, len(some), len(keys)))
        yield FeatureMatrix(drawn.values, keys, drawn.times, drawn.schema)


def into_postgres(settings: Settings, made: Iterator[FeatureMatrix]) -> int:
    """Append the blocks; return how many rows were new."""
    rows = ((block, CREATED) for block in made)
    return offline_store(settings).append_blocks(MODEL_VIEW.schema, MODEL_VIEW.entity, rows)


def into_redis(settings: Settings, made: Iterator[FeatureMatrix]) -> int:
    """Write the blocks; return how many rows were newer."""
    store = online_store(settings)
    return sum(store.write(block, CREATED) for block in made)


WRITES = {"postgres": into_postgres, "redis": into_redis}


def write(name: str, rows: int, database_url: str, redis_url: str) -> None:
    """Write once, after a small write that does not count; print the figures."""
    settings = load_settings(database_url=database_url, redis_url=redis_url)
    (some, _), into = real_rows(settings), WRITES[name]
    into(settings, blocks(some, 10, -10))
    written, figures = measured(lambda: into(settings, blocks(some, rows, 1)))
    assert written == rows, f"{written:,} rows of {rows:,} are new"
    print(json.dumps(figures))


def measure(report: Report, rows: int) -> None:
    """Write so many rows into each store, as it comes empty."""
    runs = {}
    for name in WRITES:
        with servers() as settings:
            urls = settings.database_url, settings.redis_url
            runs[name] = fresh_process("bulk_write", name, rows, *urls)
    report.add(f"wall_of_{rows}_rows", "s", {name: [run["wall"]] for name, run in runs.items()})
    report.add(f"rise_of_{rows}_rows", "MiB", {name: [run["peak"]] for name, run in runs.items()})
    for name in WRITES:
        report.target(f"{name}_rise_of_{rows}_rows", "<=", LARGEST_RISE_MIB)


def main() -> int:
    """Measure both stores, few rows and many."""
    report = Report("bulk_write", packages=["numpy", "psycopg", "redis"])
    for rows in QUICK_SIZES if is_quick() else SIZES:
        measure(report, rows)
    return report.finish()


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in WRITES:
        name, rows, database_url, redis_url = sys.argv[1:]
        write(name, int(rows), database_url, redis_url)
    else:
        sys.exit(main())
