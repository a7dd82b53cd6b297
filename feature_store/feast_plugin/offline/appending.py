"""Rows of a client into a table of somebody else's: in the types of the table, or not at all.

A client's columns have the types of its frame; the table has its own. Whole numbers go into wider
ones and into fractions that hold them, texts into JSON; what would lose something is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import pyarrow as pa

from feature_store.errors import FeatureStoreError
from feature_store.feast_plugin.offline.queries import column_types, quoted
from feature_store.offline.postgres import Postgres

ARROW_TYPES: Mapping[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "double precision": pa.float64(),
    "text": pa.string(),
    "character varying": pa.string(),
    "bytea": pa.binary(),
    "date": pa.date32(),
    "timestamp without time zone": pa.timestamp("us"),
    "timestamp with time zone": pa.timestamp("us", "UTC"),
}
"""What a column of PostgreSQL takes; any other type takes text that it understands."""
JSON = ("json", "jsonb")


def append(postgres: Postgres, table: str, rows: pa.Table) -> None:
    """Append rows to a table, all or none.

    Raises
    ------
    FeatureStoreError
        If the source is a query, or a column holds what the table's cannot.
    StoreUnavailable
        If PostgreSQL refuses the rows, or cannot be reached.
    """
    if table.startswith("("):
        raise FeatureStoreError(
            f"Rows are appended to a table; this source is the query {table}. Name a table in its "
            "PostgreSQLSource."
        )
    types = dict(column_types(postgres, table))
    missing = [name for name in rows.column_names if name not in types]
    if missing:
        raise FeatureStoreError(
            f"Table {table} has no column {', '.join(missing)}. It has: {', '.join(types)}."
        )
    columns = {name: fitted(rows[name], types[name], name) for name in rows.column_names}
    names = ", ".join(map(quoted, columns))
    values = ", ".join(f"{quoted(name)}::{types[name]}" for name in columns)
    insert = f"INSERT INTO {table} ({names}) SELECT {values} FROM staged"
    postgres.append_staged(pa.table(columns), insert)


def fitted(column: pa.ChunkedArray, kind: str, name: str) -> pa.ChunkedArray:
    """A column in the type that a column of PostgreSQL takes.

    Raises
    ------
    FeatureStoreError
        If that would lose something.

    Examples
    --------
    >>> fitted(pa.chunked_array([[1, 2]]), "double precision", "age").type
    DataType(double)
    >>> fitted(pa.chunked_array([[1.5]]), "bigint", "age")
    Traceback (most recent call last):
    ...
    feature_store.errors.FeatureStoreError: Column 'age' holds double, the table bigint: Float ...
    """
    if pa.types.is_null(column.type):
        return column.cast(_taken(kind))
    if kind in JSON:
        return pa.chunked_array([_as_json(column)])
    try:
        return column.cast(_taken(kind))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise FeatureStoreError(
            f"Column '{name}' holds {column.type}, the table {kind}: {error}. Give values that "
            "the column can hold."
        ) from error


def _taken(kind: str) -> pa.DataType:
    if kind.endswith("[]"):
        return pa.list_(ARROW_TYPES.get(kind.removesuffix("[]"), pa.string()))
    return ARROW_TYPES.get(kind, pa.string())


def _as_json(column: pa.ChunkedArray) -> pa.Array:
    """Texts as they are, since they are JSON already; mappings and lists written as JSON."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column.cast(pa.string()).combine_chunks()
    values = [
        dict(value) if pa.types.is_map(column.type) and value is not None else value
        for value in column.to_pylist()
    ]
    return pa.array([None if v is None else json.dumps(v) for v in values], pa.string())
