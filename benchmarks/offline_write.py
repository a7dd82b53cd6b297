"""Writing the real rows, 48,842 × 47, into an empty PostgreSQL table with a primary key.

Ours also compares every row with the newest one stored, so that only changes are added; the peers
write the same values without looking.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime

import polars as pl

from benchmarks.harness.report import Report, interleaved, is_quick, seconds
from benchmarks.harness.stage import real_rows, servers
from feature_store.connect import offline_store
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline import tables
from feature_store.offline.postgres import Postgres

TABLE = tables.table_name(MODEL_VIEW.schema)
CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def emptied(postgres: Postgres, table: str, work: Callable[[], object]) -> Callable[[], float]:
    """Measure ``work`` on an empty table."""

    def timed() -> float:
        with postgres.transaction() as connection:
            connection.execute(f"TRUNCATE {table}")
        return seconds(work)()

    return timed


def peer_table(postgres: Postgres) -> pl.DataFrame:
    """Make the table ``peer`` and return the rows that it takes."""
    with postgres.transaction() as connection:
        connection.execute(f"CREATE TABLE peer (LIKE {TABLE} INCLUDING ALL)")
        connection.execute("ALTER TABLE peer DROP COLUMN row_digest")
    return postgres.query(f"SELECT * FROM {TABLE}").drop("row_digest")


def copy_text(postgres: Postgres, rows: pl.DataFrame) -> None:
    """Write with psycopg's COPY, row by row as text."""
    with (
        postgres.transaction() as connection,
        connection.cursor() as cursor,
        cursor.copy("COPY peer FROM STDIN") as copy,
    ):
        for row in rows.iter_rows():
            copy.write_row(row)


def executemany(postgres: Postgres, rows: pl.DataFrame) -> None:
    """Write with psycopg's executemany."""
    values = ", ".join(["%s"] * rows.width)
    with postgres.transaction() as connection, connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO peer VALUES ({values})", rows.iter_rows())


def main() -> int:
    """Measure ours and the peers in turn."""
    report = Report("offline_write", packages=["adbc-driver-postgresql", "numpy", "psycopg"])
    with servers() as settings:
        store, (matrix, _) = offline_store(settings), real_rows(settings)
        store.append(matrix, MODEL_VIEW.entity, CREATED)
        postgres, rows = store.postgres, peer_table(store.postgres)
        subjects = {
            "ours": emptied(
                postgres, TABLE, lambda: store.append(matrix, MODEL_VIEW.entity, CREATED)
            ),
            "adbc": emptied(
                postgres, "peer", lambda: postgres.ingest("peer", rows.to_arrow(), "append")
            ),
            "copy_text": emptied(postgres, "peer", lambda: copy_text(postgres, rows)),
            "executemany": emptied(postgres, "peer", lambda: executemany(postgres, rows)),
        }
        report.add("wall", "s", interleaved(subjects, 1 if is_quick() else 5))
    for peer in ("adbc", "copy_text", "executemany"):
        report.ratio(peer, "ours", "wall")
    report.target("ours_wall", "<=", 0.6)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
