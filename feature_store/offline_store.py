"""The offline store: append-only tables in PostgreSQL and point-in-time reads out of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.engine import Created, FeatureMatrix, created_times
from feature_store.definitions.schema import FeatureSchema
from feature_store.offline import tables
from feature_store.offline.binary_copy import ROWS_PER_CHUNK, CopyColumn
from feature_store.offline.changed_rows import append_changed
from feature_store.offline.exact_rows import exact_values
from feature_store.offline.newest_rows import (
    PLACE,
    Lookup,
    events_within,
    matrix_values,
    utc_times,
)
from feature_store.offline.postgres import Postgres
from feature_store.offline.versions import VersionCatalogue
from feature_store.offline.vocabularies import Vocabularies
from feature_store.offline.windowed_reads import ActivityStore


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
    postgres
        Opens connections to the database.
    """

    def __init__(self, postgres: Postgres) -> None:
        self.postgres = postgres
        self.versions = VersionCatalogue(postgres)
        self.vocabularies = Vocabularies(postgres)

    def append(self, matrix: FeatureMatrix, entity: str, created: Created) -> int:
        """Append rows that differ from the newest one for their event; return how many did.

        All rows become visible together or not at all. Appending the same rows twice adds none.

        Parameters
        ----------
        created
            When the store learned the rows: one time for all, or datetime64 ``(n,)`` in UTC.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL cannot be reached or goes away; nothing has been written then.
        """
        last = _last_of_each(matrix.keys, matrix.times)
        times = created_times(created, len(matrix))[last]
        return self._append(matrix.schema, entity, [(matrix.rows(last), times)], may_repeat=False)

    def append_blocks(
        self, schema: FeatureSchema, entity: str, blocks: Iterable[tuple[FeatureMatrix, Created]]
    ) -> int:
        """`append` of blocks as they are made: memory is that of one, however many there are.

        All rows of all blocks become visible together or not at all. Of rows with the same entity
        and event the last counts.

        Parameters
        ----------
        blocks
            Features, and when the store learned them.
        """
        return self._append(schema, entity, blocks, may_repeat=True)

    def _append(
        self,
        schema: FeatureSchema,
        entity: str,
        blocks: Iterable[tuple[FeatureMatrix, Created]],
        *,
        may_repeat: bool,
    ) -> int:
        self.versions.register(schema, entity)
        with self.postgres.transaction() as connection:
            return append_changed(
                connection,
                tables.table_name(schema),
                _copy_blocks(blocks, entity),
                key=(entity, "event_timestamp"),
                value="row_digest",
                # A row that follows from changes says nothing about what the source holds.
                among="NOT from_changes",
                may_repeat=may_repeat,
            )

    def append_labels(self, labels: Labels, created: datetime) -> int:
        """Append labels of entities that differ from the newest known; return how many did."""
        times = created_times(created, len(labels))
        columns = [
            CopyColumn("user_id", "bigint", labels.keys),
            CopyColumn("label", "smallint", labels.values),
            CopyColumn("label_time", "timestamptz", labels.times.astype("datetime64[us]")),
            CopyColumn("created_timestamp", "timestamptz", times),
        ]
        with self.postgres.transaction() as connection:
            return append_changed(
                connection,
                "labels",
                [columns],
                key=("user_id", "label_time"),
                value="label",
                # What callers have reported says nothing about what the source holds.
                among="authority = 1",
            )

    def quarantine(self, view: str, rows: Sequence[QuarantinedRow]) -> int:
        """Keep refused rows with their reasons; a row already there is not added again."""
        from psycopg.types.json import Jsonb

        insert = (
            "INSERT INTO quarantine (view, source, row_number, reason, raw) "
            "VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
        )
        values = [(view, r.source, r.row_number, r.reason, Jsonb(r.raw)) for r in rows]
        with self.postgres.transaction() as connection:
            cursor = connection.cursor()
            cursor.executemany(insert, values)
            return max(cursor.rowcount, 0)

    def labels(self, start: datetime, end: datetime, *, known_by: datetime | None = None) -> Labels:
        """Newest labels of entities with label times in ``[start, end)``, by entity and time.

        Parameters
        ----------
        known_by
            Only labels that the store had learned by then.
        """
        known = f"AND created_timestamp <= '{known_by.isoformat()}' " if known_by else ""
        query = (
            "SELECT DISTINCT ON (user_id, label_time) user_id, label_time, label FROM labels "
            f"WHERE prediction_id IS NULL AND label_time >= '{start.isoformat()}' "
            f"AND label_time < '{end.isoformat()}' {known}"
            "ORDER BY user_id, label_time, authority DESC, created_timestamp DESC"
        )
        frame = self.postgres.query(query)
        return Labels(
            frame["user_id"].to_numpy(),
            frame["label"].to_numpy().astype(np.int8),
            utc_times(frame["label_time"]),
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

        Memory is that of the result and of one block of rows, however long the history.

        Parameters
        ----------
        keys, times
            int64 and datetime64[us] ``(n,)``.
        ttl
            Rows whose event is older than this at the asked time read as missing; a windowed view
            has its own.
        known_by
            Only rows that the store had learned by then.

        Returns
        -------
        FeatureMatrix, found
            The newest row at or before each time (``times`` are those asked for), all missing
            where there is none; and a mask ``(n,)`` of those that were found.
        """
        if schema.is_windowed:
            return ActivityStore(self.postgres).historical(schema, keys, times, known_by=known_by)
        rows = self.as_of(schema, entity, keys, times, ttl=ttl, known_by=known_by)
        return replace(rows, times=times), ~np.isnat(rows.times)

    def as_of(
        self,
        schema: FeatureSchema,
        entity: str,
        keys: NDArray[np.int64],
        times: NDArray[np.datetime64],
        *,
        ttl: timedelta | None = None,
        known: bool = False,
        known_by: datetime | None = None,
    ) -> FeatureMatrix:
        """Features as of given times, as `historical` finds them, with the times of their events.

        Parameters
        ----------
        known
            Only rows that the store had learned by the asked time.

        Returns
        -------
        FeatureMatrix
            All missing, and without a time (NaT), where there is no row.
        """
        values = np.tile(missing_vector(schema), (len(keys), 1))
        exact = FeatureMatrix(values, keys, times, schema).exact
        events = np.full(len(keys), np.datetime64("NaT", "us"))
        lookup = Lookup(
            rows=self.table(schema),
            entity=entity,
            event_time="event_timestamp",
            created_time="created_timestamp",
            columns=("event_timestamp", *schema.stored_names),
            ttl=ttl,
            known=known,
            known_by=known_by,
        )
        for block in lookup.answers(self.postgres, keys, times):
            places = block[PLACE].to_numpy()
            values[places] = matrix_values(block, schema)
            if exact is not None:
                exact[places] = exact_values(block, schema)
            events[places] = utc_times(block["event_timestamp"])
        return FeatureMatrix(values, keys, events, schema, exact)

    def latest(
        self, schema: FeatureSchema, entity: str, start: datetime, end: datetime
    ) -> FeatureMatrix:
        """The newest row of every entity with an event in ``[start, end)``, by entity."""
        import polars as pl

        columns = ", ".join([entity, "event_timestamp", "created_timestamp", *schema.stored_names])
        where = " AND ".join(events_within(start, end))
        stored = self.postgres.query(f"SELECT {columns} FROM {self.table(schema)} WHERE {where}")
        newest = stored.sort(entity, "event_timestamp", "created_timestamp").unique(
            pl.col(entity), keep="last", maintain_order=True
        )
        keys, times = newest[entity].to_numpy(), utc_times(newest["event_timestamp"])
        exact = exact_values(newest, schema)
        return FeatureMatrix(matrix_values(newest, schema), keys, times, schema, exact)

    def table(self, schema: FeatureSchema) -> str:
        """Name of the table of the definition that ``schema`` was selected from.

        Raises
        ------
        SchemaMismatch
            If no rows of that definition are stored, or it is still being filled.
        """
        return self.versions.readable(schema).table


def missing_vector(schema: FeatureSchema) -> NDArray[np.float32]:
    """The vector ``(p,)`` in which everything is missing: NaN, and code 0 of categories."""
    return np.array(
        [0.0 if feature.kind == "category" else np.nan for feature in schema.features],
        dtype=np.float32,
    )


def _last_of_each(keys: NDArray[np.int64], times: NDArray[np.datetime64]) -> NDArray[np.intp]:
    """Places of the last row of each (key, time), in order."""
    order = np.lexsort((np.arange(len(keys)), times, keys))
    last = np.ones(len(keys), dtype=bool)
    last[:-1] = (keys[order][1:] != keys[order][:-1]) | (times[order][1:] != times[order][:-1])
    return np.sort(order[last])


def _copy_blocks(
    blocks: Iterable[tuple[FeatureMatrix, Created]], entity: str
) -> Iterator[list[CopyColumn]]:
    for matrix, created in blocks:
        times = created_times(created, len(matrix))
        for start in range(0, len(matrix), ROWS_PER_CHUNK):
            part = slice(start, start + ROWS_PER_CHUNK)
            yield tables.copy_columns(matrix.rows(part), entity, times[part])
