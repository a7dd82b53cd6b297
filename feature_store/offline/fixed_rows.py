"""Query results without NULLs through PostgreSQL's binary COPY, in a transaction, into an array."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feature_store.offline.binary_copy import DTYPES, SIGNATURE, TRAILER

if TYPE_CHECKING:
    import psycopg


def fixed_dtype(**sql_types: str) -> np.dtype[np.void]:
    """What `fixed_rows` reads: column names to the SQL types that `CopyColumn` knows."""
    fields = [("fields", ">i2")]
    for name, sql_type in sql_types.items():
        fields += [(f"size of {name}", ">i4"), (name, DTYPES.get(sql_type, ">i8"))]
    return np.dtype(fields)


def fixed_rows(
    connection: psycopg.Connection,
    query: str,
    parameters: Mapping[str, Any],
    dtype: np.dtype[np.void],
) -> NDArray[np.void]:
    """Read a query's result, no value of which may be NULL, into a structured array ``(n,)``.

    Unlike `Postgres.query` it sees what its transaction has written, and makes no Python object
    of any value.
    """
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT BINARY)", parameters) as copy,
    ):
        packed = b"".join(copy)
    rows = np.frombuffer(packed[len(SIGNATURE) : -len(TRAILER)], dtype)
    assert (rows["fields"] == len(dtype.names or ()) // 2).all()
    return rows
