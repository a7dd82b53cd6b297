"""Feast's values into packed vectors and back: words for codes, null for missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from feast.data_source import DataSource
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from numpy.typing import NDArray

from feature_store.definitions.cleaning import LARGEST_EXACT_INTEGER
from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.entity import KeyValue
from feature_store.definitions.schema import (
    FIRST_KNOWN,
    MISSING,
    FeatureDefinition,
    FeatureSchema,
)
from feature_store.definitions.validation import Reasons
from feature_store.definitions.view import FeatureView
from feature_store.errors import FeatureStoreError
from feature_store.feast_plugin.definitions import PACKED
from feature_store.feast_plugin.on_demand import packing_of
from feature_store.ingest.parsing import clean, parse_categories, parse_keys

WrittenRow = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
"""What Feast hands to an online store: key, values, event time, created time."""

NULL = Value()


class ValueCodec:
    """Turns vectors of one schema into Feast's values and back.

    Examples
    --------
    >>> from feature_store.feature_definitions import USER_FEATURES
    >>> codec = ValueCodec(USER_FEATURES.schema)
    >>> vector = codec.vector({"age": Value(int64_val=35), "sex": Value(string_val="Male")})
    >>> age, sex = codec.values(vector, ["age", "sex"])
    >>> age.int64_val, sex.string_val
    (35, 'Male')
    """

    def __init__(self, schema: FeatureSchema) -> None:
        self.schema = schema
        self._packed = f"{PACKED}{schema.view}"
        self._to_value = [_to_value(feature) for feature in schema.features]
        self._readers = [_reader(feature) for feature in schema.features]
        self._missing = missing = np.empty(len(schema), dtype=np.float32)
        for place, feature in enumerate(schema.features):
            missing[place] = MISSING if feature.kind == "category" else np.nan

    def values(self, vector: NDArray[np.float32], names: Sequence[str]) -> list[Value]:
        """Some features of a vector ``(p,)`` as Feast's values; missing ones are null.

        ``packed_<view>`` is all raw attributes as one value, for the on-demand view.
        """
        if names == [self._packed]:
            return [Value(bytes_val=packing_of(self.schema.view).packed(vector))]
        numbers = vector.tolist()
        places = [self.schema.position(name) for name in names]
        return [self._to_value[place](numbers[place]) for place in places]

    def columns(
        self, vectors: Sequence[NDArray[np.float32]], places: Sequence[int]
    ) -> list[list[Any]]:
        """Some features of vectors ``(p,)``, column by column, as clients see them; None: missing.

        Examples
        --------
        >>> from feature_store.feature_definitions import USER_FEATURES
        >>> codec = ValueCodec(USER_FEATURES.schema)
        >>> vector = codec.vector({"age": Value(int64_val=35), "sex": Value(string_val="Male")})
        >>> codec.columns([vector, vector], [0, 1, codec.schema.position("sex")])
        [[35, 35], [None, None], ['Male', 'Male']]
        """
        numbers = np.array(vectors).T.tolist()
        return [_column(*self._readers[place], numbers[place]) for place in places]

    def vector(self, values: Mapping[str, Value]) -> NDArray[np.float32]:
        """A vector ``(p,)`` out of Feast's values; absent and null ones are missing."""
        vector = self._missing.copy()
        for name, value in values.items():
            kind = value.WhichOneof("val")
            if kind is not None:
                place = self.schema.position(name)
                vector[place] = self.schema.features[place].encode(getattr(value, kind))
        return vector

    def matrix(self, rows: Sequence[WrittenRow]) -> tuple[FeatureMatrix, NDArray[np.datetime64]]:
        """Rows as Feast writes them as a matrix, and when the store learned each."""
        values = np.array([self.vector(features) for _, features, _, _ in rows], np.float32)
        keys = np.array([self.identity(key) for key, _, _, _ in rows], dtype=np.int64)
        times = np.array([_naive(event) for _, _, event, _ in rows], dtype="datetime64[us]")
        now = datetime.now(UTC)
        created = np.array([_naive(known or now) for *_, known in rows], dtype="datetime64[us]")
        matrix = FeatureMatrix(values.reshape(len(rows), -1), keys, times, self.schema)
        return matrix, created

    def key(self, key: EntityKey) -> KeyValue:
        """The key that Feast means.

        Raises
        ------
        FeatureStoreError
            If it has other parts than the view's, or a part of another type.
        """
        values = [
            getattr(value, value.WhichOneof("val") or "", None) for value in key.entity_values
        ]
        if self.schema.key is not None:
            return self.schema.key.read(dict(zip(key.join_keys, values, strict=True)))
        if len(values) != 1 or not isinstance(values[0], int):
            raise FeatureStoreError(
                f"Entity key {', '.join(key.join_keys)} = {values}; expected one whole number."
            )
        return values[0]

    def identity(self, key: EntityKey) -> int:
        """The number under which rows of Feast's key are stored; see `key`."""
        found = self.key(key)
        if self.schema.key is not None:
            return self.schema.key.identity(found)
        assert isinstance(found, int)
        return found


def matrix_of(
    table: pa.Table, view: FeatureView, source: DataSource
) -> tuple[FeatureMatrix, str, NDArray[np.datetime64]]:
    """An Arrow table in Feast's types as a matrix, the entity, and when the store learned each.

    Rows without a created time are learned now.
    """
    frame = pl.DataFrame(pl.from_arrow(table))
    schema = view.schema
    values = np.empty((len(frame), len(schema)), dtype=np.float32)
    for place, feature in enumerate(schema.features):
        values[:, place] = _stored_column(feature, frame[feature.name])
    times = _times(frame[source.timestamp_field])
    created = np.full(len(frame), _naive(datetime.now(UTC)), dtype="datetime64[us]")
    if source.created_timestamp_column in frame.columns:
        given = _times(frame[source.created_timestamp_column])
        created = np.where(np.isnat(given), created, given)
    keys, _ = keys_of(frame, view)
    return FeatureMatrix(values, keys, times, schema), view.entity, created


def keys_of(
    frame: pl.DataFrame, view: FeatureView
) -> tuple[NDArray[np.int64], NDArray[np.object_] | None]:
    """Identities of a frame's keys ``(n,)``, and the text of each where it is no whole number.

    Raises
    ------
    FeatureStoreError
        If one is missing, or no key of the view; the message names the first.
    """
    reasons: Reasons = {}
    columns = [clean(frame[name], view.missing_marks) for name in view.key.columns]
    keys = parse_keys(view.key, columns, reasons)
    if reasons:
        row = min(reasons)
        raise FeatureStoreError(f"Row {row + 1:,} of '{view.name}': {reasons[row]}.")
    return keys.identities, keys.texts


def event_times(table: pa.Table, source: DataSource) -> NDArray[np.datetime64]:
    """When the events ``(n,)`` of an Arrow table happened, in UTC; NaT where it does not say."""
    return _times(pl.Series(pl.from_arrow(table[source.timestamp_field])))


def _to_value(feature: FeatureDefinition) -> Callable[[float], Value]:
    if feature.kind == "category":
        words = [NULL] * FIRST_KNOWN + [Value(string_val=word) for word in feature.categories]
        return lambda code: words[int(code)]
    if feature.kind == "integer":
        return lambda number: NULL if number != number else Value(int64_val=int(number))
    if feature.kind == "boolean":
        return lambda number: NULL if number != number else Value(bool_val=bool(number))
    return lambda number: NULL if number != number else Value(float_val=number)


def _reader(feature: FeatureDefinition) -> tuple[list[str | None] | None, Callable[..., Any]]:
    """The words of a feature's codes, if it is one of words; and the type of its numbers."""
    if feature.kind == "category":
        return [None] * FIRST_KNOWN + list(feature.categories), str
    types: dict[str, Callable[..., Any]] = {"integer": int, "boolean": bool}
    return None, types.get(feature.kind, float)


def _column(
    words: list[str | None] | None, as_type: Callable[..., Any], numbers: list[float]
) -> list[Any]:
    if words is not None:
        return [words[int(code)] for code in numbers]
    if as_type is float:
        return [None if x != x else x for x in numbers]
    return [None if x != x else as_type(x) for x in numbers]


def _stored_column(feature: FeatureDefinition, column: pl.Series) -> NDArray[np.generic]:
    cleaned = clean(column, feature.missing_marks)
    if feature.kind != "category":
        numbers = cleaned.cast(pl.Float32).fill_null(float("nan")).to_numpy()
        for row in np.flatnonzero(np.abs(numbers) >= LARGEST_EXACT_INTEGER).tolist():
            feature.encode(cleaned[row])  # refuses a whole number that became another one
        return numbers
    codes, _ = parse_categories(feature, cleaned)
    return codes


def _times(column: pl.Series) -> NDArray[np.datetime64]:
    if column.dtype == pl.String:
        column = column.str.to_datetime(time_zone="UTC")
    elif column.dtype.time_zone is not None:  # type: ignore[attr-defined]
        column = column.dt.convert_time_zone("UTC")
    return column.dt.replace_time_zone(None).dt.cast_time_unit("us").to_numpy()


def _naive(moment: datetime) -> datetime:
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
