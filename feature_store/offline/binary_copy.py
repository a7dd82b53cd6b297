"""PostgreSQL's binary COPY format, written from arrays and read into them.

Neither way loops over rows or values, and no driver for Arrow is loaded, which takes longer than a
small run. By hand, because psycopg's COPY row by row takes 1.7 times as long, ``executemany`` 3.3
times and ADBC 1.1 times (``python -m benchmarks.offline_write``). The format is that of
https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import psycopg

SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER = b"\xff\xff"
POSTGRES_EPOCH = np.datetime64("2000-01-01", "us")
FOREVER = np.datetime64(np.iinfo(np.int64).max, "us")
"""How an infinite time of PostgreSQL is read."""
ROWS_PER_CHUNK = 5_000
BLOCK_BYTES = 8 * 1024 * 1024
"""Some 20,000 rows of 47 features are read at a time."""

DTYPES = {
    **{"bigint": ">i8", "integer": ">i4", "smallint": ">i2", "real": ">f4"},
    **{"boolean": "?", "uuid": "V16", "double precision": ">f8"},
}


@dataclass(frozen=True)
class CopyColumn:
    """One column to copy.

    Parameters
    ----------
    name
        Column name in the table.
    sql_type
        ``bigint``, ``integer``, ``smallint``, ``real``, ``double precision``, ``boolean``,
        ``uuid`` (void16), ``timestamptz`` (datetime64) or ``text`` (str objects).
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

    Some 5,000 rows at a time; a block is asked for when those before it have been taken.
    """
    yield SIGNATURE
    for columns in blocks:
        fixed = [column for column in columns if column.sql_type != "text"]
        dtype = np.dtype([("fields", ">i2"), *_fields(fixed)])
        for start in range(0, len(columns[0].values), ROWS_PER_CHUNK):
            part = slice(start, start + ROWS_PER_CHUNK)
            if len(fixed) == len(columns):
                yield _rows(columns, dtype, part)
            else:
                yield _rows_with_texts(columns, part)
    yield TRAILER


def _rows_with_texts(columns: Sequence[CopyColumn], part: slice) -> bytes:
    """As `_rows`, row by row: texts differ in length."""
    begin = len(columns).to_bytes(2, "big")
    parts = [
        _fields_of_texts(c, part) if c.sql_type == "text" else _fixed(c, part) for c in columns
    ]
    return b"".join(begin + b"".join(fields) for fields in zip(*parts, strict=True))


def _fields_of_texts(column: CopyColumn, part: slice) -> list[bytes]:
    encoded = [text.encode() for text in column.values[part].tolist()]
    fields = [len(text).to_bytes(4, "big") + text for text in encoded]
    return _with_nulls(fields, column, part)


def _fixed(column: CopyColumn, part: slice) -> list[bytes]:
    dtype = np.dtype(_fields([column]))
    rows = np.empty(len(column.values[part]), dtype)
    rows["size0"], rows["value0"] = dtype["value0"].itemsize, _as_sent(column, part)
    packed, size = rows.tobytes(), dtype.itemsize
    fields = [packed[at : at + size] for at in range(0, len(packed), size)]
    return _with_nulls(fields, column, part)


def _with_nulls(fields: list[bytes], column: CopyColumn, part: slice) -> list[bytes]:
    if column.nulls is not None:
        for place in np.flatnonzero(column.nulls[part]).tolist():
            fields[place] = b"\xff\xff\xff\xff"
    return fields


def _as_sent(column: CopyColumn, part: slice) -> NDArray[Any]:
    values = column.values[part]
    if column.sql_type == "timestamptz":
        return (values.astype("datetime64[us]") - POSTGRES_EPOCH).astype(np.int64)
    return values


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
        values = _as_sent(column, part)
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


def copy_layout(columns: Mapping[str, str], reals: int = 0) -> np.dtype[np.void]:
    """How rows without NULLs lie in a binary COPY: a count of fields, then size and value of each.

    Parameters
    ----------
    columns
        Names to SQL types, those of `CopyColumn`.
    reals
        How many columns of type ``real`` follow; they are read as one, ``reals``.
    """
    fields: list[tuple[Any, ...]] = [("fields", ">i2")]
    for name, sql_type in columns.items():
        fields += [(f"size of {name}", ">i4"), (name, DTYPES.get(sql_type, ">i8"))]
    real = np.dtype([("size", ">i4"), ("value", DTYPES["real"])])
    return np.dtype([*fields, ("reals", real, (reals,))])


def read_blocks(
    connection: psycopg.Connection,
    query: str,
    layout: np.dtype[np.void],
    parameters: Mapping[str, Any] | None = None,
) -> Iterator[NDArray[np.void]]:
    """Read a query's result, no value of which may be NULL, in structured arrays ``(n,)``.

    Blocks come as they arrive, so that memory does not grow with the result; there is at least
    one. Unlike `Postgres.stream` this sees what its transaction has written.

    Parameters
    ----------
    layout
        That of the query's columns, by `copy_layout`.
    """
    kept, skip = bytearray(), len(SIGNATURE)
    command = f"COPY ({query}) TO STDOUT (FORMAT BINARY)"
    with connection.cursor() as cursor, cursor.copy(command, parameters) as parts:
        for part in parts:
            kept += part
            if len(kept) >= BLOCK_BYTES:
                end = len(kept) - (len(kept) - skip) % layout.itemsize
                yield np.frombuffer(bytes(kept[skip:end]), layout)
                del kept[:end]
                skip = 0
    yield np.frombuffer(bytes(kept[skip : -len(TRAILER)]), layout)


def read_rows(
    connection: psycopg.Connection,
    query: str,
    layout: np.dtype[np.void],
    parameters: Mapping[str, Any] | None = None,
) -> NDArray[np.void]:
    """`read_blocks`, all of them in one array."""
    return np.concatenate(list(read_blocks(connection, query, layout, parameters)))


def times_of(microseconds: NDArray[Any]) -> NDArray[np.datetime64]:
    """datetime64[us] ``(n,)`` in UTC of a read column of times."""
    numbers = microseconds.astype(np.int64)
    is_infinite = numbers == np.iinfo(np.int64).max
    finite = np.where(is_infinite, 0, numbers).astype("timedelta64[us]")
    return np.where(is_infinite, FOREVER, POSTGRES_EPOCH + finite)


def reals_of(rows: NDArray[np.void]) -> NDArray[np.float32]:
    """float32 ``(n, p)`` of what was read as ``reals``."""
    return np.ascontiguousarray(rows["reals"]["value"], dtype=np.float32)
