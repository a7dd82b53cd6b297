"""The offline store: append-only tables in PostgreSQL and point-in-time reads out of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feature_store import tables
from feature_store.engine import FeatureMatrix
from feature_store.errors import SchemaMismatch, StoreUnavailable
from feature_store.pgcopy import CopyColumn, copy_chunks
from feature_store.point_in_time import as_of
from feature_store.registry import FeatureSchema

if TYPE_CHECKING:
    import polars as pl
    import psycopg

KEYS_IN_QUERY = 2_000
"""Up to so many entities are named in the query; for more, reading the range is faster."""


@dataclass(frozen=True)
class Labels:
    """Labels of many entities.

    Parameters
    ----------
    keys
        int64 ``(n,)`` entity keys.
    values
        int8 ``(n,)``, 0 or 1.
    times
        datetime64[us] ``(n,)``: when the label became true, in UTC.
    """

    keys: NDArray[np.int64]
    values: NDArray[np.int8]
    times: NDArray[np.datetime64]

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class QuarantinedRow:
    """A row that was refused: where it came from, what it held, and why."""

    source: str
    row_number: int
    reason: str
    raw: dict[str, Any]


class OfflineStore:
    """Feature rows, labels and quarantined rows in PostgreSQL.

    Parameters
    ----------
    url
        ``postgresql://…``; a connection is opened for each call.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def append(self, matrix: FeatureMatrix, entity: str, created: datetime) -> int:
        """Append rows that differ from the newest one for their event; return how many did.

        All rows become visible together or not at all. Appending the same rows twice adds none.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL cannot be reached or goes away; nothing has been written then.
        """
        matrix = matrix.rows(_last_of_each(matrix.keys, matrix.times))
        times = np.full(len(matrix), _naive(created), dtype="datetime64[us]")
        with self.transaction() as connection:
            self._ensure_view(connection, matrix.schema, entity)
            return _append_changed(
                connection,
                tables.table_name(matrix.schema),
                tables.copy_columns(matrix, entity, times),
                key=(entity, "event_timestamp"),
                value="row_digest",
            )

    def append_labels(self, labels: Labels, created: datetime) -> int:
        """Append labels of entities that differ from the newest known; return how many did."""
        times = np.full(len(labels), _naive(created), dtype="datetime64[us]")
        columns = [
            CopyColumn("user_id", "bigint", labels.keys),
            CopyColumn("label", "smallint", labels.values),
            CopyColumn("label_time", "timestamptz", labels.times.astype("datetime64[us]")),
            CopyColumn("created_timestamp", "timestamptz", times),
        ]
        with self.transaction() as connection:
            _create(connection, tables.LABELS)
            return _append_changed(
                connection, "labels", columns, key=("user_id", "label_time"), value="label"
            )

    def quarantine(self, view: str, rows: Sequence[QuarantinedRow]) -> int:
        """Keep refused rows with their reasons; a row already there is not added again."""
        from psycopg.types.json import Jsonb

        insert = (
            "INSERT INTO quarantine (view, source, row_number, reason, raw) "
            "VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
        )
        values = [(view, r.source, r.row_number, r.reason, Jsonb(r.raw)) for r in rows]
        with self.transaction() as connection:
            _create(connection, tables.QUARANTINE)
            cursor = connection.cursor()
            cursor.executemany(insert, values)
            return max(cursor.rowcount, 0)

    def labels(self, start: datetime, end: datetime) -> Labels:
        """Newest labels of entities with label times in ``[start, end)``, by entity and time."""
        query = (
            "SELECT DISTINCT ON (user_id, label_time) user_id, label_time, label FROM labels "
            f"WHERE prediction_id IS NULL AND label_time >= '{start.isoformat()}' "
            f"AND label_time < '{end.isoformat()}' "
            "ORDER BY user_id, label_time, created_timestamp DESC"
        )
        frame = self.query(query)
        return Labels(
            frame["user_id"].to_numpy(),
            frame["label"].to_numpy().astype(np.int8),
            _times(frame["label_time"]),
        )

    def historical(
        self,
        schema: FeatureSchema,
        entity: str,
        keys: NDArray[np.int64],
        times: NDArray[np.datetime64],
        *,
        ttl: timedelta | None = None,
        known_by: datetime | None = None,
    ) -> tuple[FeatureMatrix, NDArray[np.bool_]]:
        """Features of entities as of given times: rows out are rows in, in order.

        Parameters
        ----------
        keys, times
            int64 and datetime64[us] ``(n,)``.
        ttl
            Rows whose event is older than this at the asked time read as missing.
        known_by
            Only rows that the store had learned by then.

        Returns
        -------
        FeatureMatrix, found
            The newest row at or before each time (``times`` are those asked for), all missing
            where there is none; and a mask ``(n,)`` of those that were found.
        """
        if len(keys) == 0:
            empty = np.empty((0, len(schema)), dtype=np.float32)
            return FeatureMatrix(empty, keys, times, schema), np.zeros(0, dtype=bool)
        where = [f"event_timestamp <= '{times.max()}+00'"]
        if ttl is not None:
            where.append(f"event_timestamp >= '{times.min() - np.timedelta64(ttl)}+00'")
        if known_by is not None:
            where.append(f"created_timestamp <= '{known_by.isoformat()}'")
        if len(keys) <= KEYS_IN_QUERY:
            where.append(f"{entity} IN ({', '.join(map(str, set(keys.tolist())))})")
        stored = self._rows(schema, entity, where)
        found = as_of(keys, times, stored, entity, ttl)
        values = _matrix(stored, schema)[found]
        values[found < 0] = missing_vector(schema)
        return FeatureMatrix(values, keys, times, schema), found >= 0

    def latest(
        self, schema: FeatureSchema, entity: str, start: datetime, end: datetime
    ) -> FeatureMatrix:
        """The newest row of every entity with an event in ``[start, end)``, by entity."""
        import polars as pl

        where = [
            f"event_timestamp >= '{start.isoformat()}'",
            f"event_timestamp < '{end.isoformat()}'",
        ]
        stored = self._rows(schema, entity, where)
        newest = stored.sort(entity, "event_timestamp", "created_timestamp").unique(
            pl.col(entity), keep="last", maintain_order=True
        )
        keys, times = newest[entity].to_numpy(), _times(newest["event_timestamp"])
        return FeatureMatrix(_matrix(newest, schema), keys, times, schema)

    def query(self, sql: str) -> pl.DataFrame:
        """Read a query's result through Arrow; times come back in UTC.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL cannot be reached, or lacks the table.
        """
        import adbc_driver_postgresql.dbapi as adbc
        import polars as pl
        from adbc_driver_manager import Error

        try:
            with adbc.connect(self.url) as connection, connection.cursor() as cursor:
                cursor.execute(sql)
                return pl.DataFrame(pl.from_arrow(cursor.fetch_arrow_table()))
        except Error as error:
            raise StoreUnavailable(_explanation(error)) from error

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection]:
        """Open a connection with one transaction that is committed at the end.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL cannot be reached or goes away; nothing has been written then.
        """
        import psycopg

        try:
            with psycopg.connect(self.url, connect_timeout=5) as connection:
                yield connection
        except psycopg.Error as error:
            raise StoreUnavailable(_explanation(error)) from error

    def _rows(self, schema: FeatureSchema, entity: str, where: Sequence[str]) -> pl.DataFrame:
        columns = ", ".join([entity, "event_timestamp", "created_timestamp", *schema.names])
        table = self._table(schema)
        return self.query(f"SELECT {columns} FROM {table} WHERE {' AND '.join(where)}")

    def _table(self, schema: FeatureSchema) -> str:
        """Name of the table of the definition that ``schema`` was selected from."""
        with self.transaction() as connection:
            _create(connection, tables.CATALOGUE)
            known = connection.execute(
                "SELECT fingerprint, table_name FROM feature_views WHERE view = %s "
                "ORDER BY created_timestamp DESC",
                (schema.view,),
            ).fetchall()
        for fingerprint, table in known:
            if fingerprint == schema.definition_fingerprint:
                return str(table)
        stored = ", ".join(fingerprint for fingerprint, _ in known) or "nothing"
        raise SchemaMismatch(
            f"The offline store holds {stored} of '{schema.view}'; this code defines "
            f"{schema.definition_fingerprint}. Run the feature pipeline to fill it: "
            "python pipelines/feature_pipeline.py"
        )

    def _ensure_view(
        self, connection: psycopg.Connection, schema: FeatureSchema, entity: str
    ) -> None:
        _create(connection, tables.CATALOGUE)
        new = connection.execute(
            "INSERT INTO feature_views (view, fingerprint, table_name, definition) "
            "VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (
                schema.view,
                schema.fingerprint,
                tables.table_name(schema),
                tables.definition_json(schema),
            ),
        ).rowcount
        if new:
            _create(connection, tables.feature_table(schema, entity))
            _create(connection, tables.readable_view(schema, entity))


def missing_vector(schema: FeatureSchema) -> NDArray[np.float32]:
    """The vector ``(p,)`` in which everything is missing: NaN, and code 0 of categories."""
    return np.array(
        [0.0 if feature.kind == "category" else np.nan for feature in schema.features],
        dtype=np.float32,
    )


def _append_changed(
    connection: psycopg.Connection,
    table: str,
    columns: Sequence[CopyColumn],
    key: Sequence[str],
    value: str,
) -> int:
    """Copy into a temporary table, then insert what differs from the newest row of its key."""
    names = ", ".join(column.name for column in columns)
    keys = ", ".join(key)
    same = " AND ".join(f"newest.{name} = staged.{name}" for name in (*key, value))
    # One writer a table at a time: two runs at once must not both find a row new.
    connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (table,))
    connection.execute(f"CREATE TEMP TABLE staged (LIKE {table}) ON COMMIT DROP")  # type: ignore[arg-type]
    with connection.cursor() as cursor:
        with cursor.copy(f"COPY staged ({names}) FROM STDIN (FORMAT BINARY)") as copy:  # type: ignore[arg-type]
            for chunk in copy_chunks(columns):
                copy.write(chunk)
        cursor.execute(
            f"""
            INSERT INTO {table} ({names}) SELECT {names} FROM staged WHERE NOT EXISTS (
                SELECT FROM (
                    SELECT DISTINCT ON ({keys}) {keys}, {value} FROM {table}
                    ORDER BY {keys}, created_timestamp DESC
                ) AS newest WHERE {same}
            )"""  # type: ignore[arg-type]
        )
        return cursor.rowcount


def _create(connection: psycopg.Connection, statements: str) -> None:
    """Run ``CREATE … IF NOT EXISTS``, one session at a time: PostgreSQL races on its own there."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtext('fti create'))")
    for statement in statements.split(";\n"):
        connection.execute(statement)  # type: ignore[arg-type]


def _last_of_each(keys: NDArray[np.int64], times: NDArray[np.datetime64]) -> NDArray[np.intp]:
    """Places of the last row of each (key, time), in order."""
    order = np.lexsort((np.arange(len(keys)), times, keys))
    last = np.ones(len(keys), dtype=bool)
    last[:-1] = (keys[order][1:] != keys[order][:-1]) | (times[order][1:] != times[order][:-1])
    return np.sort(order[last])


def _matrix(frame: pl.DataFrame, schema: FeatureSchema) -> NDArray[np.float32]:
    """float32 ``(n, p)`` of a frame's feature columns; NULL is NaN."""
    import polars as pl

    values = np.empty((len(frame), len(schema)), dtype=np.float32)
    for place, name in enumerate(schema.names):
        values[:, place] = frame[name].cast(pl.Float32).fill_null(float("nan")).to_numpy()
    return values


def _times(column: pl.Series) -> NDArray[np.datetime64]:
    return column.dt.replace_time_zone(None).to_numpy().astype("datetime64[us]")


def _naive(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")


def _explanation(error: Exception) -> str:
    reason = " ".join(str(error).split())
    return f"PostgreSQL refused or went away: {reason}. Check that it runs (`make status`)."
