"""The tables of the offline store, derived from a view's schema."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.entity import Entity
from feature_store.definitions.exact import EPOCH, MICROSECOND, ExactCodec, ExactColumn
from feature_store.definitions.schema import FeatureDefinition, FeatureSchema
from feature_store.offline import events as activity_events
from feature_store.offline.binary_copy import CopyColumn

SQL_TYPES = {
    **{"integer": "integer", "number": "real"},
    **{"category": "smallint", "boolean": "boolean"},
}


IDENTITY = "identity_of_key"
"""Column of readable rows that no feature is called like."""
EXACT_TYPES = {
    **{"int64": "bigint", "float64": "double precision"},
    **{"string": "text", "timestamp": "timestamptz"},
}


def table_name(schema: FeatureSchema) -> str:
    """Name of the table that holds rows of exactly this definition of the view.

    Values of a windowed view are made when they are read: all its versions share the events.
    """
    if schema.is_windowed:
        return activity_events.TABLE
    return f"{schema.view}_{schema.fingerprint[:8]}"


def feature_table(schema: FeatureSchema, entity: str) -> str:
    """SQL that creates a view's append-only table: its columns are the view's definition."""
    typed = {f.name: SQL_TYPES[f.kind] for f in schema.features}
    # What a model takes of an exact column follows from it.
    typed |= {column.name: EXACT_TYPES[column.type] for column in schema.exact}
    columns = "".join(f"    {name} {sql_type},\n" for name, sql_type in typed.items())
    return f"""
CREATE TABLE IF NOT EXISTS {table_name(schema)} (
    {entity} bigint NOT NULL,
    event_timestamp timestamptz NOT NULL,
    created_timestamp timestamptz NOT NULL,
    row_digest uuid NOT NULL,
    from_changes boolean NOT NULL DEFAULT false,
{columns}    PRIMARY KEY ({entity}, event_timestamp, created_timestamp)
)"""


def readable_view(schema: FeatureSchema, entity: str) -> str:
    """SQL of the view for people: the same rows with words in place of category codes."""
    return f"""
DROP VIEW IF EXISTS {schema.view};
CREATE VIEW {schema.view} AS {readable_rows(schema, entity)}"""


def readable_rows(schema: FeatureSchema, entity: str, *, with_identity: bool = False) -> str:
    """Query of the rows of exactly this definition, with words in place of category codes.

    Parameters
    ----------
    with_identity
        Whether the key's identity stands beside it, as `IDENTITY`.
    """
    # A part of the key that is a feature, too, stands there once: it is never missing.
    parts = () if schema.key is None else schema.key.columns
    members = {name: array for array, places in schema.arrays.items() for name in places}
    shown: dict[str, str] = {}
    for feature in schema.features:
        if feature.name in members:
            array = members[feature.name]
            shown.setdefault(array, _readable_array(tuple(schema.arrays[array])))
        elif feature.name not in parts:
            shown[feature.name] = _readable(feature, schema)
    shown |= {column.name: column.name for column in schema.exact}
    columns = "".join(f",\n    {sql} AS {name}" for name, sql in shown.items())
    table = table_name(schema)
    if schema.key is None:
        keys, joined = [entity], ""
    else:
        keys = key_columns(schema.key, "keys.key")
        joined = (
            f" LEFT JOIN entity_keys AS keys ON keys.entity = '{schema.key.name}' "
            f"AND keys.id = {table}.{entity}"
        )
    if with_identity:
        keys.append(f"{table}.{entity} AS {IDENTITY}")
    return f"""
SELECT {", ".join(keys)}, event_timestamp, created_timestamp{columns}
FROM {table}{joined}"""


def key_columns(key: Entity, text: str) -> list[str]:
    """SQL of the columns of a key, out of the SQL of its text."""
    if len(key.parts) == 1:
        return [f"{text} AS {key.name}"]
    sql_types = {"integer": "::bigint", "string": ""}
    return [
        f"({text}::jsonb ->> {place}){sql_types[part.type]} AS {part.name}"
        for place, part in enumerate(key.parts)
    ]


def definition_json(schema: FeatureSchema) -> str:
    """The meaning of every feature as the catalogue keeps it: the text decides the fingerprint."""
    return json.dumps(schema.meaning)


def copy_columns(
    matrix: FeatureMatrix,
    entity: str,
    created: NDArray[np.datetime64],
    *,
    from_changes: bool = False,
) -> list[CopyColumn]:
    """The columns of `feature_table` for a matrix; whether its rows follow from changes."""
    fixed = [
        CopyColumn(entity, "bigint", matrix.keys),
        CopyColumn("event_timestamp", "timestamptz", matrix.times.astype("datetime64[us]")),
        CopyColumn("created_timestamp", "timestamptz", created),
        CopyColumn("row_digest", "uuid", row_digests(matrix.values, exact_packed(matrix))),
        CopyColumn("from_changes", "boolean", np.full(len(matrix), from_changes)),
    ]
    columns = np.ascontiguousarray(matrix.values.T)
    features = zip(matrix.schema.features, columns, strict=True)
    copied = [
        _feature_column(feature, column) for feature, column in features if not feature.is_cast
    ]
    return fixed + copied + _exact_columns(matrix)


def row_digests(
    values: NDArray[np.float32], exact: Sequence[bytes] | None = None
) -> NDArray[np.void]:
    """128-bit digests ``(n,)`` of the rows of ``(n, p)``: equal if and only if the bits are.

    Parameters
    ----------
    exact
        What stands behind each vector; see `exact_packed`.
    """
    packed, size = values.tobytes(), values.shape[1] * 4
    blake2b = hashlib.blake2b
    parts = [packed[at * size : (at + 1) * size] for at in range(len(values))]
    if exact is not None:
        parts = [part + more for part, more in zip(parts, exact, strict=True)]
    digests = b"".join(blake2b(part, digest_size=16).digest() for part in parts)
    return np.frombuffer(digests, dtype="V16")


def exact_packed(matrix: FeatureMatrix) -> list[bytes] | None:
    """The exact values of each row ``(n,)`` as bytes; None where there are no such columns."""
    if matrix.exact is None:
        return None
    codec = ExactCodec(matrix.schema.exact)
    return [codec.pack(values) for values in matrix.exact]


def _exact_columns(matrix: FeatureMatrix) -> list[CopyColumn]:
    if matrix.exact is None:
        return []
    return [
        _exact_column(column, matrix.exact[:, place].tolist())
        for place, column in enumerate(matrix.schema.exact)
    ]


def _exact_column(column: ExactColumn, values: Sequence[Any]) -> CopyColumn:
    nulls = np.array([value is None for value in values], dtype=bool)
    if column.type == "timestamp":
        moments = [0 if value is None else (value - EPOCH) // MICROSECOND for value in values]
        array = np.array(moments, dtype=np.int64).astype("datetime64[us]")
    elif column.type == "string":
        array = np.array(["" if value is None else value for value in values], dtype=object)
    else:
        dtype = np.int64 if column.type == "int64" else np.float64
        array = np.array([0 if value is None else value for value in values], dtype=dtype)
    return CopyColumn(column.name, EXACT_TYPES[column.type], array, nulls)


def _feature_column(feature: FeatureDefinition, column: NDArray[np.float32]) -> CopyColumn:
    sql_type = SQL_TYPES[feature.kind]
    if feature.kind == "category":
        return CopyColumn(feature.name, sql_type, column.astype(np.int16))
    nulls = np.isnan(column)
    if feature.kind in ("integer", "boolean"):
        column = np.where(nulls, 0, column).astype(np.int32 if sql_type == "integer" else np.bool_)
    return CopyColumn(feature.name, sql_type, column, nulls)


def as_real(feature: FeatureDefinition) -> str:
    """SQL of a feature's column as a number that is never NULL."""
    if feature.is_cast:
        return "'NaN'::real"  # follows from the exact column
    name = f"{feature.name}::integer" if feature.kind == "boolean" else feature.name
    return f"coalesce({name}::real, 'NaN')"


def _readable(feature: FeatureDefinition, schema: FeatureSchema) -> str:
    if feature.kind != "category":
        return feature.name
    if feature.open_to is not None:
        return (
            f"(SELECT word FROM category_words WHERE view = '{schema.view}' "
            f"AND feature = '{feature.name}' AND code = {feature.name})"
        )
    words = ", ".join("'" + word.replace("'", "''") + "'" for word in feature.categories)
    return f"(ARRAY[NULL, NULL, {words}]::text[])[{feature.name} + 1]"


def _readable_array(members: Sequence[str]) -> str:
    return f"CASE WHEN {members[0]} IS NOT NULL THEN ARRAY[{', '.join(members)}] END"
