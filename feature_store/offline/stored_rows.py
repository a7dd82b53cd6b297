"""Rows of one stored version, read block by block: memory does not grow with the table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.engine import FeatureMatrix
from feature_store.offline.postgres import Postgres
from feature_store.offline.versions import ViewVersion
from feature_store.offline_store import matrix_values, utc_times


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


def every_row(
    postgres: Postgres, version: ViewVersion, where: Sequence[str] = ()
) -> Iterator[StoredRows]:
    """All rows, by entity, event time and created time."""
    order = f"{version.entity}, event_timestamp, created_timestamp"
    return _blocks(postgres, version, "", where, order)


def newest_rows(
    postgres: Postgres, version: ViewVersion, where: Sequence[str] = ()
) -> Iterator[StoredRows]:
    """The newest row of each entity, by entity."""
    order = f"{version.entity}, event_timestamp DESC, created_timestamp DESC"
    return _blocks(postgres, version, f"DISTINCT ON ({version.entity})", where, order)


def count_entities(postgres: Postgres, version: ViewVersion, where: Sequence[str] = ()) -> int:
    """How many rows `newest_rows` yields in all."""
    kept = f" WHERE {' AND '.join(where)}" if where else ""
    query = f"SELECT count(DISTINCT {version.entity}) FROM {version.table}{kept}"
    return int(postgres.query(query).item())


def _blocks(
    postgres: Postgres, version: ViewVersion, distinct: str, where: Sequence[str], order: str
) -> Iterator[StoredRows]:
    schema, kept = version.schema, f" WHERE {' AND '.join(where)}" if where else ""
    columns = ", ".join([version.entity, "event_timestamp", "created_timestamp", *schema.names])
    query = (
        f"SELECT {distinct} {columns}, uuid_send(row_digest) AS row_digest "
        f"FROM {version.table}{kept} ORDER BY {order}"
    )
    for frame in postgres.stream(query):
        keys, times = frame[version.entity].to_numpy(), utc_times(frame["event_timestamp"])
        matrix = FeatureMatrix(matrix_values(frame, schema), keys, times, schema)
        digests = np.frombuffer(b"".join(frame["row_digest"]), dtype="V16")
        yield StoredRows(matrix, utc_times(frame["created_timestamp"]), digests)
