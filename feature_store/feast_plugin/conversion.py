"""Feast's values into packed vectors and back: words for codes, null for missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from numpy.typing import NDArray

from feature_store.definitions.arrays import gather
from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.entity import KeyValue
from feature_store.definitions.exact import ExactValue
from feature_store.definitions.schema import MISSING, FeatureSchema
from feature_store.errors import FeatureStoreError
from feature_store.feast_plugin.definitions import PACKED
from feature_store.feast_plugin.field_values import (
    FieldReader,
    array_reader,
    as_model_takes,
    exact_reader,
    feature_reader,
    read_array,
    read_exact,
    refuse_lost_digits,
)
from feature_store.feast_plugin.on_demand import packing_of
from feature_store.offline.vocabularies import Vocabularies
from feature_store.online.row_codec import Row

WrittenRow = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
"""What Feast hands to an online store: key, values, event time, created time."""


def _readers_of(schema: FeatureSchema) -> list[FieldReader]:
    """What reads each feature, then each exact column, then each array."""
    exact = [exact_reader(column) for column in schema.exact]
    arrays = [array_reader() for _ in schema.arrays]
    return [*map(feature_reader, schema.features), *exact, *arrays]


class ValueCodec:
    """Turns rows of one schema into Feast's values and back.

    Examples
    --------
    >>> from feature_store.feature_definitions import USER_FEATURES
    >>> codec = ValueCodec(USER_FEATURES.schema)
    >>> vector, _ = codec.read({"age": Value(int64_val=35), "sex": Value(string_val="Male")})
    >>> age, sex = codec.values(vector, None, ["age", "sex"])
    >>> age.int64_val, sex.string_val
    (35, 'Male')
    """

    def __init__(self, schema: FeatureSchema, vocabularies: Vocabularies | None = None) -> None:
        self.schema = schema
        self.vocabularies = vocabularies
        self._packed = f"{PACKED}{schema.view}"
        self._readers = _readers_of(schema)
        self._learning = Lock()
        # A rounded feature is shown to the digit.
        behind = [*schema.exact_positions, *schema.arrays]
        places = {name: len(schema) + place for place, name in enumerate(behind)}
        self._places = {**schema.positions, **places}
        self._arrays = [list(places.values()) for places in schema.arrays.values()]
        self._missing = missing = np.empty(len(schema), dtype=np.float32)
        for place, feature in enumerate(schema.features):
            missing[place] = MISSING if feature.kind == "category" else np.nan

    def values(
        self, vector: NDArray[np.float32], exact: Sequence[ExactValue] | None, names: Sequence[str]
    ) -> list[Value]:
        """Some features of a row, ``(p,)`` and ``(k,)``, as Feast's values; missing ones are null.

        ``packed_<view>`` is all raw attributes as one value, for the on-demand view.
        """
        if names == [self._packed]:
            return [Value(bytes_val=packing_of(self.schema.view).packed(vector))]
        self._look_up(vector[np.newaxis])
        arrays = [gather(vector[places].tolist()) for places in self._arrays]
        held = [*vector.tolist(), *(exact or ()), *arrays]
        return [self._readers[place].value(held[place]) for place in (self.place(n) for n in names)]

    def place(self, name: str) -> int:
        """Place of a feature or an exact column in a row: the exact ones are behind the vector.

        Raises
        ------
        UnknownFeature
            If the view has none of this name.
        """
        self.schema.require(name)
        return self._places[name]

    def timestamps(self, names: Sequence[str]) -> list[str]:
        """Those of some names that are exact columns of times."""
        exact = self.schema.exact_positions
        return [n for n in names if n in exact and self.schema.exact[exact[n]].type == "timestamp"]

    def columns(self, rows: Sequence[Row], places: Sequence[int]) -> list[list[Any]]:
        """Some features of rows, column by column, as clients see them; None: missing.

        Examples
        --------
        >>> from feature_store.feature_definitions import USER_FEATURES
        >>> codec = ValueCodec(USER_FEATURES.schema)
        >>> vector, _ = codec.read({"age": Value(int64_val=35), "sex": Value(string_val="Male")})
        >>> codec.columns([Row(7, 0, 0, vector)] * 2, [codec.place(n) for n in ("age", "sex")])
        [[35, 35], ['Male', 'Male']]
        """
        vectors = np.array([row.vector for row in rows])
        self._look_up(vectors)
        held = vectors.T.tolist()
        if self.schema.exact:
            held += map(list, zip(*[row.exact for row in rows if row.exact], strict=True))
        for members in self._arrays:
            held.append([gather(numbers) for numbers in vectors[:, members].tolist()])
        return [self._readers[place].column(held[place]) for place in places]

    def _look_up(self, vectors: NDArray[np.float32]) -> None:
        """Ask for the words of open vocabularies, where the vectors ``(n, p)`` have new ones."""
        if self.schema.open_features and self.vocabularies is not None:
            known = self.vocabularies.schema_of(self.schema, vectors)
            self._know(known)

    def _learn(self, rows: Sequence[WrittenRow]) -> None:
        """Learn the words that rows bring to open vocabularies."""
        if self.schema.open_features and self.vocabularies is not None:
            names = [feature.name for feature in self.schema.open_features]
            given = {
                name: [values[name].string_val for _, values, _, _ in rows if name in values]
                for name in names
            }
            self._know(self.vocabularies.learned(self.schema, given))

    def _know(self, schema: FeatureSchema) -> None:
        """Take over words; other threads write and read meanwhile, and none may lose its own."""
        if schema.words == self.schema.words:
            return
        with self._learning:
            words = self.schema.words
            # Words are only added, so the longer of two vocabularies has all of both.
            longer = {n: max(words.get(n, ()), found, key=len) for n, found in schema.words.items()}
            known = schema.with_words(longer)
            self._readers = _readers_of(known)
            self.schema = known

    def read(self, values: Mapping[str, Value]) -> tuple[NDArray[np.float32], list[ExactValue]]:
        """A row, ``(p,)`` and ``(k,)``, out of Feast's values; absent and null ones are missing.

        Raises
        ------
        InvalidValue
            If a value is of another type than its column.
        """
        vector = self._missing.copy()
        exact: list[ExactValue] = [None] * len(self.schema.exact)
        for name, value in values.items():
            kind = value.WhichOneof("val")
            if kind is None:
                continue
            self.schema.require(name)
            if (place := self.schema.exact_positions.get(name)) is not None:
                exact[place] = read_exact(self.schema.exact[place], kind, getattr(value, kind))
            elif (array := self.schema.array_columns.get(name)) is not None:
                numbers = read_array(array, kind, getattr(value, kind))
                if numbers is not None:
                    vector[list(self.schema.arrays[name].values())] = numbers
            elif (place := self.schema.positions.get(name)) is not None:
                vector[place] = self.schema.features[place].encode(getattr(value, kind))
        for cast, place in self._casts:
            vector[cast] = as_model_takes(self.schema.features[cast], exact[place])
        return vector, exact

    @cached_property
    def _casts(self) -> list[tuple[int, int]]:
        """Places of rounded features, and of the exact columns that they are made of."""
        features = enumerate(self.schema.features)
        return [(n, self.schema.exact_positions[f.name]) for n, f in features if f.is_cast]

    def matrix(self, rows: Sequence[WrittenRow]) -> tuple[FeatureMatrix, NDArray[np.datetime64]]:
        """Rows as Feast writes them as a matrix, and when the store learned each.

        Raises
        ------
        InvalidValue
            If a value is of another type than its column, or may have lost digits.
        """
        self._learn(rows)
        read = [self.read(features) for _, features, _, _ in rows]
        values = np.array([vector for vector, _ in read], np.float32)
        exact = np.full((len(rows), len(self.schema.exact)), None, dtype=object)
        for place, (_, row) in enumerate(read):
            exact[place] = row
        refuse_lost_digits(self.schema.exact, exact)
        keys = np.array([self.identity(key) for key, _, _, _ in rows], dtype=np.int64)
        times = np.array([_naive(event) for _, _, event, _ in rows], dtype="datetime64[us]")
        now = datetime.now(UTC)
        created = np.array([_naive(known or now) for *_, known in rows], dtype="datetime64[us]")
        matrix = FeatureMatrix(
            values.reshape(len(rows), -1), keys, times, self.schema,
            exact if self.schema.exact else None,
        )  # fmt: skip
        return matrix, created - self._cut_off  # type: ignore[return-value]

    @cached_property
    def _cut_off(self) -> np.timedelta64:
        """How much earlier than it was a row counts as learned that Feast's messages carry.

        They cut times to whole seconds; so the row of the same event out of the offline store,
        which has all of them, replaces it.
        """
        has_times = any(column.type == "timestamp" for column in self.schema.exact)
        return np.timedelta64(int(has_times), "us")

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


def _naive(moment: datetime) -> datetime:
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
