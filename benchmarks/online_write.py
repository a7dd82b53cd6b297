"""Writing the real rows, 48,842 × 47, into an empty Redis.

``ours`` writes a matrix; ``feast_over_our_store`` and ``feast`` are ``feast materialize`` from
PostgreSQL, over our stores and over Feast's own; ``feast_frame`` is Feast's own
``write_to_online_store`` of a DataFrame that is in memory already.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from feast import FeatureStore
from redis import Redis

from benchmarks.harness.report import Report, interleaved, is_quick, seconds
from benchmarks.harness.stage import filled_stores, servers
from benchmarks.harness.stock_feast import plug_in, stock
from benchmarks.historical_retrieval import readable_table
from configs.settings import Settings
from feature_store.connect import offline_store, online_store
from feature_store.feature_definitions import MODEL_VIEW

START, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)


def into_empty(client: Redis, work: Callable[[], object]) -> Callable[[], float]:
    """Measure ``work`` on an empty server, quietly."""

    def timed() -> float:
        client.flushall()
        with (
            Path(os.devnull).open("w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            return seconds(work)()

    return timed


def bytes_a_key(client: Redis, work: Callable[[], object]) -> float:
    """Memory of one row after ``work`` on an empty server."""
    into_empty(client, work)()
    used: Any = client.memory_usage(next(client.scan_iter()))
    return float(used)


def materialize(store: FeatureStore) -> Callable[[], object]:
    """Do what ``feast materialize`` does."""
    return lambda: store.materialize(START, END)


def write_frame(store: FeatureStore, settings: Settings) -> Callable[[], object]:
    """Do what ``write_to_online_store`` does."""
    frame = offline_store(settings).postgres.query("SELECT * FROM readable_rows").to_pandas()
    return lambda: store.write_to_online_store(MODEL_VIEW.name, frame)


def main() -> int:
    """Measure ours, Feast over ours, and Feast as it comes, in turn."""
    logging.getLogger("feast").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    report = Report("online_write", packages=["feast", "redis"])
    with servers() as settings, tempfile.TemporaryDirectory() as folder:
        matrix, ours = filled_stores(settings), online_store(settings)
        readable_table(settings)
        theirs, client = stock(settings, Path(folder)), ours.client
        subjects = {
            "ours": lambda: ours.write(matrix, END),
            "feast_over_our_store": materialize(plug_in(settings)),
            "feast": materialize(theirs),
            "feast_frame": write_frame(theirs, settings),
        }
        timed = {name: into_empty(client, work) for name, work in subjects.items()}
        report.add("wall", "s", interleaved(timed, 1 if is_quick() else 3))
        in_db_1 = Redis(**{**client.connection_pool.connection_kwargs, "db": 1})
        sizes = {
            "ours": [bytes_a_key(client, subjects["ours"])],
            "feast": [bytes_a_key(in_db_1, subjects["feast"])],
        }
        report.add("bytes_a_row", "B", sizes)
    report.ratio("feast", "ours", "wall")
    report.ratio("feast_frame", "ours", "wall")
    report.ratio("feast", "feast_over_our_store", "wall")
    report.ratio("feast", "ours", "bytes_a_row")
    report.target("ours_wall", "<=", 0.6)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
