"""The newest row of given entities, read through PostgreSQL's binary COPY, block by block.

Every value is asked for as a number of fixed width, a missing one as NaN: so a block of bytes is an
array, and no driver for Arrow need be loaded, which takes longer than a small run.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.engine import FeatureMatrix
from feature_store.offline.binary_copy import POSTGRES_EPOCH, SIGNATURE
from feature_store.offline.postgres import Postgres
from feature_store.offline.versions import ViewVersion

BLOCK_BYTES = 8 * 1024 * 1024
"""Some 20,000 rows of 47 features."""

Rows = tuple[FeatureMatrix, NDArray[np.datetime64]]


def copied_newest(
    postgres: Postgres, version: ViewVersion, keys: NDArray[np.int64]
) -> Iterator[Rows]:
    """The newest row of each entity, by entity, and when the store learned each.

    Raises
    ------
    StoreUnavailable
        If PostgreSQL cannot be reached or goes away meanwhile.
    """
    layout, kept = _layout(len(version.schema)), bytearray()
    copy = f"COPY ({_query(version, keys)}) TO STDOUT (FORMAT BINARY)"
    skip = len(SIGNATURE)
    with (
        postgres.transaction() as connection,
        connection.cursor() as cursor,
        cursor.copy(copy) as parts,
    ):
        for part in parts:
            kept += part
            if len(kept) >= BLOCK_BYTES:
                rows = (len(kept) - skip) // layout.itemsize
                yield _decoded(bytes(kept[skip : skip + rows * layout.itemsize]), layout, version)
                del kept[: skip + rows * layout.itemsize]
                skip = 0
    rows = (len(kept) - skip) // layout.itemsize
    yield _decoded(bytes(kept[skip : skip + rows * layout.itemsize]), layout, version)


def _query(version: ViewVersion, keys: NDArray[np.int64]) -> str:
    values = ", ".join(f"coalesce({name}::real, 'NaN')" for name in version.schema.names)
    named = ",".join(map(str, keys.tolist()))
    return (
        f"SELECT DISTINCT ON ({version.entity}) {version.entity}, event_timestamp, "
        f"created_timestamp, {values} FROM {version.table} "
        f"WHERE {version.entity} = ANY('{{{named}}}'::bigint[]) "
        f"ORDER BY {version.entity}, event_timestamp DESC, created_timestamp DESC"
    )


def _layout(features: int) -> np.dtype[np.void]:
    """A row: how many fields, then the size of each and its value."""
    long = np.dtype([("size", ">i4"), ("value", ">i8")])
    real = np.dtype([("size", ">i4"), ("value", ">f4")])
    fixed = [("key", long), ("event", long), ("created", long)]
    return np.dtype([("fields", ">i2"), *fixed, ("features", real, (features,))])


def _decoded(packed: bytes, layout: np.dtype[np.void], version: ViewVersion) -> Rows:
    rows = np.frombuffer(packed, dtype=layout)
    values = np.ascontiguousarray(rows["features"]["value"], dtype=np.float32)
    keys = rows["key"]["value"].astype(np.int64)
    matrix = FeatureMatrix(values, keys, _times(rows["event"]), version.schema)
    return matrix, _times(rows["created"])


def _times(field: NDArray[np.void]) -> NDArray[np.datetime64]:
    since = field["value"].astype(np.int64).astype("timedelta64[us]")
    times: NDArray[np.datetime64] = POSTGRES_EPOCH + since
    return times
