"""PostgreSQL's binary COPY format, written from arrays without a loop over rows or values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER = b"\xff\xff"
POSTGRES_EPOCH = np.datetime64("2000-01-01", "us")
ROWS_PER_CHUNK = 5_000

DTYPES = {
    **{"bigint": ">i8", "integer": ">i4", "smallint": ">i2", "real": ">f4"},
    **{"boolean": "?", "uuid": "V16"},
}


@dataclass(frozen=True)
class CopyColumn:
    """One column to copy.

    Parameters
    ----------
    name
        Column name in the table.
    sql_type
        ``bigint``, ``integer``, ``smallint``, ``real``, ``boolean``, ``uuid`` (void16) or
        ``timestamptz`` (datetime64).
    values
        Array ``(n,)``.
    nulls
        Mask ``(n,)`` of values to write as NULL; None for none.
    """

    name: str
    sql_type: str
    values: NDArray[np.generic]
    nulls: NDArray[np.bool_] | None = None


def copy_blocks(blocks: Iterable[Sequence[CopyColumn]]) -> Iterator[bytes]:
    """Yield the bytes of a binary COPY of blocks of equally long columns.

    Some 5,000 rows at a time; a block is asked for when those before it have been taken. The
    format is that of https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format".
    """
    yield SIGNATURE
    for columns in blocks:
        dtype = np.dtype([("fields", ">i2"), *_fields(columns)])
        for start in range(0, len(columns[0].values), ROWS_PER_CHUNK):
            yield _rows(columns, dtype, slice(start, start + ROWS_PER_CHUNK))
    yield TRAILER


def _fields(columns: Sequence[CopyColumn]) -> list[tuple[str, str]]:
    fields = []
    for place, column in enumerate(columns):
        fields += [(f"size{place}", ">i4"), (f"value{place}", DTYPES.get(column.sql_type, ">i8"))]
    return fields


def _rows(columns: Sequence[CopyColumn], dtype: np.dtype[np.void], part: slice) -> bytes:
    n = len(columns[0].values[part])
    rows = np.empty(n, dtype=dtype)
    rows["fields"] = len(columns)
    keep = None
    for place, column in enumerate(columns):
        values = column.values[part]
        if column.sql_type == "timestamptz":
            values = (values.astype("datetime64[us]") - POSTGRES_EPOCH).astype(np.int64)
        rows[f"size{place}"] = dtype[f"value{place}"].itemsize
        nulls = None if column.nulls is None else column.nulls[part]
        if nulls is None or not nulls.any():
            rows[f"value{place}"] = values
            continue
        # A NULL has size -1 and no bytes: its bytes are cut out of the fixed-width rows.
        keep = np.ones((n, dtype.itemsize), dtype=bool) if keep is None else keep
        rows[f"value{place}"] = np.where(nulls, 0, values)
        rows[f"size{place}"][nulls] = -1
        offset = dtype.fields[f"value{place}"][1]  # type: ignore[index]
        keep[nulls, offset : offset + dtype[f"value{place}"].itemsize] = False
    if keep is None:
        return rows.tobytes()
    every_byte = rows.view(np.uint8).reshape(n, dtype.itemsize)
    return bytes(every_byte[keep].tobytes())
