"""Stored rows of one version of a view: the newest of each entity, now or as of given times.

What goes to the online store is read through PostgreSQL's binary COPY, block by block, every value
as a number of fixed width. Lookups as of given times go through an index on key and time, so that
the work grows with what is asked for and not with the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.schema import FeatureSchema
from feature_store.offline.binary_copy import (
    copy_layout,
    read_blocks,
    read_rows,
    reals_of,
    times_of,
)
from feature_store.offline.exact_rows import ExactLayout, naive_times
from feature_store.offline.postgres import Postgres
from feature_store.offline.tables import as_real
from feature_store.offline.versions import ViewVersion

if TYPE_CHECKING:
    import polars as pl
    import psycopg

FIXED = {
    "key": "bigint",
    "event_timestamp": "timestamptz",
    "created_timestamp": "timestamptz",
    "row_digest": "uuid",
}
"""The columns before the features, as they are read."""
PLACE = "place_of_row"
"""Column of an answer that no feature is called like."""


@dataclass(frozen=True)
class StoredRows:
    """Some rows of a table of the offline store.

    Parameters
    ----------
    matrix
        Keys, event times and features.
    created
        datetime64[us] ``(n,)``: when the store learned them.
    digests
        void16 ``(n,)``: what was noted of each row's bits when it was written.
    """

    matrix: FeatureMatrix
    created: NDArray[np.datetime64]
    digests: NDArray[np.void]

    def __len__(self) -> int:
        return len(self.matrix)

    def with_rows(self, others: StoredRows) -> StoredRows:
        """These rows and others of the same view."""
        mine, theirs = self.matrix, others.matrix
        exact = None
        if mine.exact is not None and theirs.exact is not None:
            exact = np.concatenate([mine.exact, theirs.exact])
        matrix = FeatureMatrix(
            np.concatenate([mine.values, theirs.values]),
            np.concatenate([mine.keys, theirs.keys]),
            np.concatenate([mine.times, theirs.times]),
            mine.schema,
            exact,
        )
        return StoredRows(
            matrix,
            np.concatenate([self.created, others.created]),
            np.concatenate([self.digests, others.digests]),
        )


def every_row(
    postgres: Postgres, version: ViewVersion, where: Sequence[str] = ()
) -> Iterator[StoredRows]:
    """All rows, by entity, event time and created time, block by block.

    Raises
    ------
    StoreUnavailable
        If PostgreSQL cannot be reached or goes away meanwhile.
    """
    order = f"{version.entity}, event_timestamp, created_timestamp"
    return _blocks(postgres, version, "", where, order)


def newest_rows(
    postgres: Postgres, version: ViewVersion, where: Sequence[str] = ()
) -> Iterator[StoredRows]:
    """The newest row of each entity, by entity, block by block.

    Raises
    ------
    StoreUnavailable
        If PostgreSQL cannot be reached or goes away meanwhile.
    """
    order = f"{version.entity}, event_timestamp DESC, created_timestamp DESC"
    return _blocks(postgres, version, f"DISTINCT ON ({version.entity})", where, order)


def count_entities(postgres: Postgres, version: ViewVersion, where: Sequence[str] = ()) -> int:
    """How many rows `newest_rows` yields in all."""
    query = f"SELECT count(DISTINCT {version.entity}) FROM {version.table}{_condition(where)}"
    return int(postgres.query(query).item())


def newest_of(
    connection: psycopg.Connection,
    table: str,
    entity: str,
    schema: FeatureSchema,
    keys: NDArray[np.int64],
) -> StoredRows:
    """The newest row of each of a few entities, found by index in the caller's transaction."""
    query = (
        "SELECT found.* FROM unnest(%(keys)s::bigint[]) AS asked (key) CROSS JOIN LATERAL ("
        f"SELECT {_columns(entity, schema)} FROM {table} WHERE {entity} = asked.key "
        "ORDER BY event_timestamp DESC, created_timestamp DESC LIMIT 1) AS found"
    )
    parameters = {"keys": as_array(keys)}
    if schema.exact:
        nothing = StoredRows(
            FeatureMatrix(
                np.empty((0, len(schema)), np.float32),
                np.empty(0, np.int64),
                np.empty(0, "datetime64[us]"),
                schema,
            ),
            np.empty(0, "datetime64[us]"),
            np.empty(0, "V16"),
        )
        blocks = _exact_blocks(connection, query, schema, parameters)
        return reduce(StoredRows.with_rows, blocks, nothing)
    layout = copy_layout(FIXED, len(schema))
    return _decoded(read_rows(connection, query, layout, parameters), schema)


def as_array(keys: NDArray[np.int64]) -> str:
    """Keys as PostgreSQL reads an array of them."""
    return "{" + ",".join(map(str, keys.tolist())) + "}"


def keys_among(entity: str, keys: NDArray[np.int64]) -> str:
    """SQL condition on rows: the entity is one of these."""
    return f"{entity} = ANY('{as_array(keys)}'::bigint[])"


def events_within(start: datetime, end: datetime) -> list[str]:
    """SQL conditions on rows: the event lies in ``[start, end)``."""
    return [f"event_timestamp >= '{start.isoformat()}'", events_before(end)]


def events_before(end: datetime) -> str:
    """SQL condition on rows: the event lies before ``end``."""
    return f"event_timestamp < '{end.isoformat()}'"


def _blocks(
    postgres: Postgres, version: ViewVersion, distinct: str, where: Sequence[str], order: str
) -> Iterator[StoredRows]:
    query = (
        f"SELECT {distinct} {_columns(version.entity, version.schema)} "
        f"FROM {version.table}{_condition(where)} ORDER BY {order}"
    )
    layout = copy_layout(FIXED, len(version.schema))
    with postgres.transaction() as connection:
        if version.schema.exact:
            yield from _exact_blocks(connection, query, version.schema)
            return
        for rows in read_blocks(connection, query, layout):
            yield _decoded(rows, version.schema)


def _exact_blocks(
    connection: psycopg.Connection,
    query: str,
    schema: FeatureSchema,
    parameters: Mapping[str, Any] | None = None,
) -> Iterator[StoredRows]:
    layout = ExactLayout(len(FIXED), schema.features, schema.exact)
    for rows in layout.read_blocks(connection, query, parameters):
        keys, events, created, digests = rows.fixed
        times = naive_times(events)
        matrix = FeatureMatrix(rows.values, np.array(keys, np.int64), times, schema, rows.exact)
        packed = b"".join(digest.bytes for digest in digests)
        yield StoredRows(matrix, naive_times(created), np.frombuffer(packed, "V16"))


def _columns(entity: str, schema: FeatureSchema) -> str:
    columns = [*map(as_real, schema.features), *(column.name for column in schema.exact)]
    return ", ".join([entity, "event_timestamp", "created_timestamp", "row_digest", *columns])


def _condition(where: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(where)}" if where else ""


def _decoded(rows: NDArray[np.void], schema: FeatureSchema) -> StoredRows:
    keys, times = rows["key"].astype(np.int64), times_of(rows["event_timestamp"])
    matrix = FeatureMatrix(reals_of(rows), keys, times, schema)
    return StoredRows(matrix, times_of(rows["created_timestamp"]), rows["row_digest"].copy())


@dataclass(frozen=True)
class Lookup:
    """Which rows to look up: for each (key, time), the newest one at or before it.

    Parameters
    ----------
    rows
        The table, and how it is joined to others: the SQL after FROM.
    entity, event_time, created_time
        SQL of the columns that an index leads by, in this order.
    columns
        SQL of what to read, with its names.
    ttl
        A row older than this at the asked time is none; exactly this old still is one.
    known
        Whether a row counts only for times at which the store had learned it.
    known_by
        Only rows that the store had learned by then.
    """

    rows: str
    entity: str
    event_time: str
    created_time: str
    columns: Sequence[str]
    ttl: timedelta | None = None
    known: bool = False
    known_by: datetime | None = None

    def answers(
        self, postgres: Postgres, keys: NDArray[np.int64], times: NDArray[np.datetime64]
    ) -> Iterator[pl.DataFrame]:
        """The rows that were found, block by block, with the place of the asked one as `PLACE`.

        Parameters
        ----------
        keys, times
            int64 and datetime64[us] ``(n,)``, in any order; no time (NaT) finds nothing.
        """
        import pyarrow as pa

        # Neighbours in the index are asked for one after the other.
        order = np.lexsort((times, keys))
        asked = {
            PLACE: order,
            "key": keys[order],
            "time": pa.array(times[order].astype("datetime64[us]"), pa.timestamp("us", "UTC")),
        }
        return postgres.stream(self._query(), pa.table(asked))

    def _query(self) -> str:
        where = [f"{self.entity} = asked.key", f"{self.event_time} <= asked.time"]
        if self.ttl is not None:
            # In seconds, since days would depend on the session's time zone.
            seconds, rest = divmod(self.ttl, timedelta(seconds=1))
            span = f"interval '{seconds}.{rest.microseconds:06} seconds'"
            where.append(f"{self.event_time} >= asked.time - {span}")
        if self.known:
            where.append(f"{self.created_time} <= asked.time")
        if self.known_by is not None:
            where.append(f"{self.created_time} <= '{self.known_by.isoformat()}'")
        return (
            f"SELECT asked.{PLACE}, found.* FROM asked CROSS JOIN LATERAL ("
            f"SELECT {', '.join(self.columns)} FROM {self.rows} WHERE {' AND '.join(where)} "
            f"ORDER BY {self.event_time} DESC, {self.created_time} DESC LIMIT 1) AS found"
        )


def matrix_values(frame: pl.DataFrame, schema: FeatureSchema) -> NDArray[np.float32]:
    """float32 ``(n, p)`` of a frame's feature columns; NULL is NaN."""
    import polars as pl

    values = np.empty((len(frame), len(schema)), dtype=np.float32)
    for place, name in enumerate(schema.names):
        values[:, place] = frame[name].cast(pl.Float32).fill_null(float("nan")).to_numpy()
    return values


def utc_times(column: pl.Series) -> NDArray[np.datetime64]:
    """datetime64[us] ``(n,)`` of a column of times with a zone."""
    return column.dt.replace_time_zone(None).to_numpy().astype("datetime64[us]")
