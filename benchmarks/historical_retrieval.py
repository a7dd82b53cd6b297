"""Point-in-time retrieval of the 47 features of every user at the time of the label.

``ours`` gives the matrix that models are trained on; ``feast_over_our_store`` is Feast's client
over our store, to an Arrow table; ``feast`` is Feast's own PostgreSQL store over a plain table of
the same rows, with a primary key and fresh statistics.

Feast's own query needs nested loops the size of the data as soon as the view has a TTL, as most
have: ``feast_ttl`` therefore gets few rows, or a database that is told to avoid nested loops
(``feast_ttl_no_loops``).

Growth: histories of 50,000 to 5,000,000 rows, ten an entity, asked for 48,842 to 500,000 entity
rows, each read in a process of its own. ``above_result`` is by how much its memory rose, less the
size of the result. ``feast_over_our_store_without_index`` reads a table that is not ours and has
no index: every row of it passes by.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pandas as pd
from feast import FeatureStore

from benchmarks.harness.memory import fresh_process
from benchmarks.harness.report import Report, interleaved, is_quick, seconds
from benchmarks.harness.stage import filled_stores, servers
from benchmarks.harness.stock_feast import REFERENCES, plug_in, stock
from benchmarks.subjects.history import make_history
from configs.settings import Settings
from feature_store.connect import offline_store
from feature_store.definitions.engine import FeatureMatrix
from feature_store.feature_definitions import MODEL_VIEW

FEW, SOME, ALL = 2_500, 10_000, 48_842
SIZES = {50_000: 48_842, 500_000: 50_000, 5_000_000: 500_000}
QUICK_SIZES = {20_000: 2_000, 100_000: 10_000}
"""Feature rows to entity rows."""
GROWING = ["ours", "feast_over_our_store", "feast_over_our_store_without_index"]
LARGEST_RISE_MIB = dict(zip(GROWING, [100, 400, 400], strict=True))
TTL = timedelta(days=3_650)


def execute(settings: Settings, *statements: str) -> None:
    """Run statements in the benchmark's database."""
    with offline_store(settings).postgres.transaction() as connection:
        for statement in statements:
            connection.execute(statement)


def readable_table(settings: Settings) -> None:
    """Make the table that Feast's own store reads."""
    key = f"{MODEL_VIEW.entity}, event_timestamp, created_timestamp"
    execute(
        settings,
        f"CREATE TABLE readable_rows AS SELECT * FROM {MODEL_VIEW.name}",
        f"ALTER TABLE readable_rows ADD PRIMARY KEY ({key})",
    )
    execute(settings, "ANALYZE readable_rows")


def without_loops(settings: Settings, work: Callable[[], object]) -> Callable[[], float]:
    """Measure ``work`` while the database avoids nested loops."""

    def timed() -> float:
        execute(settings, "ALTER ROLE CURRENT_USER SET enable_nestloop = off")
        taken = seconds(work)()
        execute(settings, "ALTER ROLE CURRENT_USER RESET enable_nestloop")
        return taken

    return timed


class Retrievals:
    """What is measured: retrievals of the first ``n`` users."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.matrix: FeatureMatrix = filled_stores(settings)
        readable_table(settings)
        self.own = offline_store(settings)
        self.plug_in = plug_in(settings)
        self.feast, self.feast_ttl = stock(settings, folder), stock(settings, folder, TTL)

    def ours(self, n: int, ttl: timedelta | None = None) -> Callable[[], object]:
        """Retrieve by our own call."""
        rows, view = self.matrix, MODEL_VIEW
        return lambda: self.own.historical(
            view.schema, view.entity, rows.keys[:n], rows.times[:n], ttl=ttl
        )

    def through(self, store: FeatureStore, n: int) -> Callable[[], object]:
        """Retrieve as a client of Feast."""
        keys, times = self.matrix.keys[:n], self.matrix.times[:n]
        rows = pd.DataFrame({MODEL_VIEW.entity: keys, "event_timestamp": times})
        return lambda: store.get_historical_features(rows, REFERENCES).to_arrow()

    def of_all(self) -> dict[str, Callable[[], float]]:
        """Retrievals that end for all users."""
        with_ttl = self.through(self.feast_ttl, ALL)
        return {
            "ours": seconds(self.ours(ALL)),
            "ours_ttl": seconds(self.ours(ALL, TTL)),
            "feast_over_our_store": seconds(self.through(self.plug_in, ALL)),
            "feast": seconds(self.through(self.feast, ALL)),
            "feast_ttl_no_loops": without_loops(self.settings, with_ttl),
        }

    def of(self, n: int) -> dict[str, Callable[[], float]]:
        """Retrievals with a TTL as the database plans them by default."""
        return {
            "ours_ttl": seconds(self.ours(n, TTL)),
            "feast_ttl": seconds(self.through(self.feast_ttl, n)),
        }


def measure_growth(report: Report, settings: Settings) -> None:
    """Measure ours over histories of growing length."""
    sizes = QUICK_SIZES if is_quick() else SIZES
    subjects = GROWING[::2] if is_quick() else GROWING
    for rows, n in sizes.items():
        url, runs = make_history(settings, rows), {}
        for subject in subjects:
            rounds = 3 if subject == "ours" and not is_quick() else 1
            runs[subject] = [
                fresh_process("subjects.history", subject, url, rows, n) for _ in range(rounds)
            ]
        for metric, unit in {"wall": "s", "above_result": "MiB"}.items():
            values = {subject: [each[metric] for each in runs[subject]] for subject in runs}
            report.add(f"{metric}_of_{rows}_rows", unit, values)
    small, large = sorted(sizes)[-2:]
    for subject in subjects:
        slower = report.median(subject, f"wall_of_{large}_rows") / report.median(
            subject, f"wall_of_{small}_rows"
        )
        name = f"{subject}_wall_a_row_{large}_over_{small}"
        report.ratios[name] = slower * small / large
        report.target(name, "<=", 1.5)
        report.target(f"{subject}_above_result_of_{large}_rows", "<=", LARGEST_RISE_MIB[subject])


def main() -> int:
    """Measure ours and the peers in turn: all users, and few; then how ours grows."""
    logging.getLogger("feast").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    report = Report("historical_retrieval", packages=["feast", "polars", "psycopg", "pyarrow"])
    with servers() as settings, tempfile.TemporaryDirectory() as folder:
        made, rounds = Retrievals(settings, Path(folder)), 1 if is_quick() else 5
        report.add("wall_48842", "s", interleaved(made.of_all(), rounds))
        report.add("wall_2500", "s", interleaved(made.of(FEW), rounds))
        if not is_quick():
            report.add("wall_10000", "s", interleaved(made.of(SOME), 1))
            report.ratio("feast_ttl", "ours_ttl", "wall_10000")
        measure_growth(report, settings)
    report.ratio("feast", "ours", "wall_48842")
    report.ratio("feast", "feast_over_our_store", "wall_48842")
    report.ratio("feast_ttl_no_loops", "ours_ttl", "wall_48842")
    report.ratio("feast_ttl", "ours_ttl", "wall_2500")
    report.target("ours_wall_48842", "<=", 0.8)
    report.target("feast_over_our_store_wall_48842", "<=", 1.0)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
