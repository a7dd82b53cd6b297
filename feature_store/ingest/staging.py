"""Rows of one run, kept aside in PostgreSQL until all are known to be good; then stored at once.

Temporary tables of one session hold them: memory does not grow with the run, and a run that is
stopped, killed or cut off leaves nothing behind.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.schema import FeatureSchema
from feature_store.offline import tables
from feature_store.offline.binary_copy import CopyColumn
from feature_store.offline.changed_rows import insert_changed, keep_last
from feature_store.offline.entity_keys import note_staged_keys
from feature_store.offline.postgres import copy_into, lock_table
from feature_store.offline_store import Labels, QuarantinedRow

if TYPE_CHECKING:
    import psycopg

ROWS, LABELS, QUARANTINE = "staged_rows", "staged_labels", "staged_quarantine"
KEYS = "staged_keys"
PLACE = "place_of_row"
"""Column of staged rows that no feature is called like."""


@dataclass(frozen=True)
class Stored:
    """What became of the rows of a run.

    Parameters
    ----------
    added
        How many were new or changed.
    known
        How many were stored already.
    keys
        int64 ``(k,)``, ascending: the entities that the run had rows of.
    """

    added: int
    known: int
    keys: NDArray[np.int64]


class Staging:
    """Keeps rows aside, then stores all of them in one transaction.

    Parameters
    ----------
    connection
        Open as long as the run lasts; it is committed after every step.
    schema, entity
        The view.
    """

    def __init__(self, connection: psycopg.Connection, schema: FeatureSchema, entity: str) -> None:
        self.connection = connection
        self.schema = schema
        self.entity = entity
        self._keys: list[NDArray[np.int64]] = []
        self._places = self._staged_keys = 0
        self._stage_nothing()

    def add(
        self,
        features: FeatureMatrix,
        labels: Labels,
        refused: Sequence[QuarantinedRow],
        keys: NDArray[np.object_] | None = None,
    ) -> None:
        """Keep the rows of one batch aside; of two rows for one event the later one counts.

        Parameters
        ----------
        keys
            The text ``(n,)`` of each row's key, where it is no whole number.
        """
        if self.schema.key is not None:
            assert keys is not None, "rows under digests come with their keys"
            self._keep_keys(features.keys, keys)
        self._copy(ROWS, self._row_columns(features))
        self._copy(LABELS, _label_columns(labels))
        with self.connection.cursor() as cursor:
            cursor.executemany(
                f"INSERT INTO {QUARANTINE} VALUES (%s, %s, %s, %s, %s)",
                [
                    (self.schema.view, r.source, r.row_number, r.reason, json.dumps(r.raw))
                    for r in refused
                ],
            )
        self.connection.commit()
        self._keys.append(np.unique(features.keys))

    def store(self) -> Stored:
        """Append what differs from the newest row of its event, to all tables or to none.

        The view's table must be there.
        """
        table = tables.table_name(self.schema)
        rows = self._later_ones(ROWS, (self.entity, "event_timestamp"))
        self._later_ones(LABELS, ("user_id", "label_time"))
        if self.schema.key is not None:
            note_staged_keys(self.connection, self.schema.key, KEYS, self._staged_keys)
        # One writer a table at a time; the time is taken while no other writes, so that times and
        # the order of writing agree.
        for locked in (table, "labels"):
            lock_table(self.connection, locked)
        created = self._now()
        key = (self.entity, "event_timestamp")
        # A row that follows from changes says nothing about what the source holds.
        added = self._append(ROWS, table, key, "row_digest", created, among="NOT from_changes")
        self._append(LABELS, "labels", ("user_id", "label_time"), "label", created)
        # What is read again stays one row, wherever it stands among those that came with it.
        self.connection.execute(
            "INSERT INTO quarantine (view, source, row_number, reason, raw) "
            f"SELECT view, source, row_number, reason, raw::jsonb FROM {QUARANTINE} AS fresh "
            "WHERE NOT EXISTS (SELECT FROM quarantine AS known WHERE "
            "(known.view, known.source, known.reason, known.raw) = "
            "(fresh.view, fresh.source, fresh.reason, fresh.raw::jsonb)) ON CONFLICT DO NOTHING"
        )
        self.connection.commit()
        keys = np.unique(np.concatenate(self._keys)) if self._keys else np.empty(0, np.int64)
        return Stored(added, rows - added, keys)

    def _stage_nothing(self) -> None:
        """Make the temporary tables."""
        no_values = np.empty((0, len(self.schema)), dtype=np.float32)
        no_keys, no_times = np.empty(0, np.int64), np.empty(0, "datetime64[us]")
        nothing = FeatureMatrix(no_values, no_keys, no_times, self.schema)
        no_labels = Labels(no_keys, np.empty(0, np.int8), no_times)
        for table, columns in (
            (ROWS, self._row_columns(nothing)),
            (LABELS, _label_columns(no_labels)),
        ):
            typed = ", ".join(f"{column.name} {column.sql_type}" for column in columns)
            self.connection.execute(f"CREATE TEMP TABLE {table} ({PLACE} bigint, {typed})")
        self.connection.execute(
            f"CREATE TEMP TABLE {QUARANTINE} "
            "(view text, source text, row_number bigint, reason text, raw text)"
        )
        self.connection.execute(f"CREATE TEMP TABLE {KEYS} (id bigint, key text)")
        self.connection.commit()

    def _keep_keys(self, identities: NDArray[np.int64], texts: NDArray[np.object_]) -> None:
        _, first = np.unique(identities, return_index=True)
        columns = [
            CopyColumn("id", "bigint", identities[first]),
            CopyColumn("key", "text", texts[first]),
        ]
        copy_into(self.connection, KEYS, [columns])
        self._staged_keys += len(first)

    def _row_columns(self, features: FeatureMatrix) -> list[CopyColumn]:
        columns = tables.copy_columns(features, self.entity, features.times)
        return [column for column in columns if column.name != "created_timestamp"]

    def _copy(self, table: str, columns: Sequence[CopyColumn]) -> None:
        n = len(columns[0].values)
        places = np.arange(self._places, self._places + n, dtype=np.int64)
        self._places += n
        copy_into(self.connection, table, [[CopyColumn(PLACE, "bigint", places), *columns]])

    def _later_ones(self, staged: str, key: Sequence[str]) -> int:
        """Drop rows that a later one for the same event replaces; return how many are left."""
        keep_last(self.connection, staged, key, PLACE)
        row = self.connection.execute(f"SELECT count(*) FROM {staged}").fetchone()
        return int(row[0]) if row else 0

    def _now(self) -> datetime:
        row = self.connection.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None
        moment: datetime = row[0]
        return moment

    def _append(
        self,
        staged: str,
        table: str,
        key: Sequence[str],
        value: str,
        created: datetime,
        among: str = "true",
    ) -> int:
        found = self.connection.execute(f"SELECT * FROM {staged} LIMIT 0").description or ()
        names = ", ".join(column.name for column in found if column.name != PLACE)
        return insert_changed(
            self.connection, staged, names, table, key, value, among, created=created
        )


def _label_columns(labels: Labels) -> list[CopyColumn]:
    return [
        CopyColumn("user_id", "bigint", labels.keys),
        CopyColumn("label", "smallint", labels.values),
        CopyColumn("label_time", "timestamptz", labels.times.astype("datetime64[us]")),
    ]
