"""The engine: one plan that computes a view's features for one row or ten million."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.arrays import spread
from feature_store.definitions.composed import ComposedAttributes, Encoded
from feature_store.definitions.schema import (
    MISSING,
    UNSEEN,
    FeatureDefinition,
    FeatureSchema,
)
from feature_store.definitions.view import FeatureView
from feature_store.errors import DefinitionError, UnknownFeature

BLOCK_ROWS = 8192
"""Rows that are computed together: 47 float32 columns of a block fit a second-level cache."""

Column = NDArray[Any]


@dataclass(frozen=True)
class FeatureMatrix:
    """Features of many entities at their event times.

    Parameters
    ----------
    values
        float32 ``(n, p)`` in the order of the schema.
    keys
        int64 ``(n,)`` entity keys.
    times
        datetime64[us] ``(n,)``, event times in UTC.
    schema
        Names and kinds of the ``p`` columns.
    exact
        Values of the schema's exact columns, objects ``(n, k)``; None where it has none.
    """

    values: NDArray[np.float32]
    keys: NDArray[np.int64]
    times: NDArray[np.datetime64]
    schema: FeatureSchema
    exact: NDArray[np.object_] | None = None

    def __post_init__(self) -> None:
        """Exact columns without values are all missing."""
        if self.exact is None and self.schema.exact:
            nothing = np.full((len(self.values), len(self.schema.exact)), None, dtype=object)
            object.__setattr__(self, "exact", nothing)

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, which: NDArray[Any] | slice) -> FeatureMatrix:
        """Return the chosen rows (an index array, a mask or a slice)."""
        exact = None if self.exact is None else self.exact[which]
        return FeatureMatrix(
            self.values[which], self.keys[which], self.times[which], self.schema, exact
        )


Created = datetime | NDArray[np.datetime64]
"""When a store learned some rows: one time for all, or datetime64 ``(n,)`` in UTC."""


def created_times(created: Created, n: int) -> NDArray[np.datetime64]:
    """One created time a row, as datetime64[us] ``(n,)`` in UTC."""
    if isinstance(created, datetime):
        naive = created.astimezone(UTC).replace(tzinfo=None)
        return np.full(n, np.datetime64(naive, "us"))
    return created.astype("datetime64[us]")


class Engine:
    """Computes a view's features; the same functions for one request and for a table.

    Examples
    --------
    >>> from feature_store.feature_definitions import USER_FEATURES
    >>> engine = Engine(USER_FEATURES)
    >>> vector = engine.row({"age": 35, "education": "Bachelors"})
    >>> engine.schema.decode(vector)["education_num"]
    13
    """

    def __init__(self, view: FeatureView) -> None:
        self.view = view
        self.schema = view.schema
        # What is computed from timestamps is read back out of a vector, as raw columns are: there
        # the timestamps are not.
        self.raw = (*view.raw_features, *view.timed_features)
        self._raw_places = {f.name: place for place, f in enumerate(self.raw)}
        positions = self.schema.positions
        self._fills = [
            (positions[name], fill.function, [positions[i] for i in fill.inputs])
            for name, fill in view.fills.items()
            if fill.function is not None
        ]
        self._derived = [
            (place, feature.function, [positions[i] for i in feature.inputs])
            for place, feature in enumerate(self.schema.features)
            if feature.function is not None and feature.inputs[0] in positions
        ]
        self._is_category = [feature.kind == "category" for feature in self.schema.features]
        self._raw_positions = [positions[f.name] for f in self.raw]
        self._composed = ComposedAttributes(view)
        self._following = {
            name: {i for i in fill.inputs if i in view.fills} for name, fill in view.fills.items()
        }
        self._missing: list[float] = self.missing_raw.tolist()
        self._codes = [f.codes if f.kind == "category" else None for f in self.raw]
        self._as_is = [not f.cleaning.mark_numbers for f in self.raw]
        self._category_places = [p for p, f in enumerate(self.raw) if f.kind == "category"]
        ends = [self.raw[place].codes_end for place in self._category_places]
        self._codes_end = np.array(ends, dtype=np.int64)[:, np.newaxis]
        self._probe()

    def row(self, attributes: Mapping[str, Any]) -> NDArray[np.float32]:
        """Compute one vector ``(p,)`` from raw attributes by name; absent ones are missing.

        Raises
        ------
        UnknownFeature
            If an attribute is not a raw column of the view.
        """
        return self._compute(self.encode_row(attributes), 1)[:, 0]

    def table(self, columns: Mapping[str, Column]) -> NDArray[np.float32]:
        """Compute ``(n, p)`` from encoded raw columns ``(n,)``; absent columns are missing.

        Timestamps are datetime64[us].

        Raises
        ------
        UnknownFeature
            If a column is not a raw column of the view.
        """
        if self._composed.is_needed:
            columns = self._composed.columns(columns)
        for name in columns:
            self._raw_place(name)
        n = len(next(iter(columns.values()))) if columns else 0
        encoded = [self._typed(feature, columns.get(feature.name), n) for feature in self.raw]
        values = np.empty((n, len(self.schema)), dtype=np.float32)
        for start in range(0, n, BLOCK_ROWS):
            block = [column[start : start + BLOCK_ROWS] for column in encoded]
            values[start : start + BLOCK_ROWS] = self._compute(block, len(block[0])).T
        return values

    def encode_row(self, attributes: Mapping[str, Any]) -> list[Column]:
        """Encode one row of raw attributes: a number or code a column, each an array ``(1,)``."""
        codes = np.zeros(len(self.raw), dtype=np.int64)
        numbers = np.full(len(self.raw), np.nan, dtype=np.float32)
        for name, value in self._composed.plain(attributes).items():
            place = self._raw_place(name)
            column = codes if self.raw[place].kind == "category" else numbers
            column[place] = self._encoded(place, value)
        return [
            (codes if feature.kind == "category" else numbers)[place : place + 1]
            for place, feature in enumerate(self.raw)
        ]

    def override(
        self, vector: NDArray[np.float32], attributes: Mapping[str, Any]
    ) -> NDArray[np.float32]:
        """Recompute a stored vector ``(p,)`` with some raw attributes replaced.

        An attribute that is derived from a replaced one (the rank of an education) is derived
        anew, unless it is given too.
        """
        attributes = self._composed.plain(attributes)
        columns = self.columns_of(vector[np.newaxis, :])
        replaced = self.encode_row(attributes)
        stale = {f for name in attributes for f in self._following.get(name, ())}
        for name in stale - set(attributes):
            place = self._raw_place(name)
            columns[place] = self._typed(self.raw[place], None, 1)
        for name in attributes:
            place = self._raw_place(name)
            columns[place] = replaced[place]
        return self._compute(columns, 1)[:, 0]

    def patches(
        self, changes: Sequence[Mapping[str, Any]]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The raw columns that changes of attributes set, to apply many of them one upon the other.

        An attribute that is derived from a changed one is set to missing, so that it is derived
        anew, unless it is given as well. Attributes that the view does not define are passed over.

        Returns
        -------
        values, are_set
            ``(n, r)``: numbers and codes of the ``r`` raw columns, and which of them are set.
        """
        places: list[int] = []
        given: list[Any] = []
        if self._composed.is_needed:
            changes = [spread(attributes, self.view.arrays) for attributes in changes]
        for row, attributes in enumerate(changes):
            start = row * len(self.raw)
            for name, value in attributes.items():
                place = self._raw_places.get(name)
                if place is None:
                    continue
                places.append(start + place)
                given.append(self._encoded(place, value))
                for follows in self._following.get(name, ()):
                    if follows not in attributes:
                        places.append(start + self._raw_places[follows])
                        given.append(self._missing[self._raw_places[follows]])
        values = np.tile(self.missing_raw, (len(changes), 1))
        are_set = np.zeros(values.shape, dtype=bool)
        values.ravel()[places] = given
        are_set.ravel()[places] = True
        return values, are_set

    @cached_property
    def missing_raw(self) -> NDArray[np.float32]:
        """The raw columns ``(r,)`` of a row of which nothing is known."""
        return np.array([0 if f.kind == "category" else np.nan for f in self.raw], np.float32)

    def overrides(
        self, values: NDArray[np.float32], attributes: Sequence[Mapping[str, Any]]
    ) -> NDArray[np.float32]:
        """`override` for many: vectors ``(n, p)``, each with raw attributes of its own."""
        attributes = self._plain_rows(attributes)
        given, are_set = self.patches(attributes)
        return self._of_raw(np.where(are_set, given, values[:, self._raw_positions]))

    def rows(self, attributes: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
        """`row` for many: ``(n, p)``, the same bits as one by one.

        Raises
        ------
        UnknownFeature
            If an attribute is not a raw column of the view.
        """
        return self._of_raw(self.patches(self._plain_rows(attributes))[0])

    def columns_of(self, values: NDArray[np.float32]) -> list[Column]:
        """Read the encoded raw columns, each ``(n,)``, back out of vectors ``(n, p)``."""
        return [
            self._typed(feature, values[:, position], len(values))
            for feature, position in zip(self.raw, self._raw_positions, strict=True)
        ]

    def _encoded(self, place: int, value: Any) -> float:
        """A raw value as the number or code that stands for it; see `FeatureDefinition.encode`."""
        if value is None:
            return self._missing[place]
        codes, kind, number = self._codes[place], type(value), None
        # What needs no cleaning is most of what comes.
        if codes is None:
            number = value if (kind is int or kind is float) and self._as_is[place] else None
        elif kind is str:
            number = codes.get(value)
        if type(value) is Encoded:
            return float(value)
        return self.raw[place].encode(value) if number is None else number

    def _of_raw(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute ``(n, p)`` from numbers and codes of the raw columns, ``(n, r)``."""
        values = np.empty((len(raw), len(self.schema)), dtype=np.float32)
        for start in range(0, len(raw), BLOCK_ROWS):
            block = np.ascontiguousarray(raw[start : start + BLOCK_ROWS].T)
            columns: list[Column] = list(block)
            codes = block[self._category_places].astype(np.int64)
            codes[(codes < MISSING) | (codes >= self._codes_end)] = UNSEEN
            for place, column in zip(self._category_places, codes, strict=True):
                columns[place] = column
            values[start : start + BLOCK_ROWS] = self._compute(columns, block.shape[1]).T
        return values

    def _compute(self, raw: Iterable[Column], n: int) -> NDArray[np.float32]:
        """Compute ``(p, n)`` from the encoded raw columns, in the order of the view."""
        out = np.empty((len(self.schema), n), dtype=np.float32)
        columns: list[Column] = [out[place] for place in range(len(self.schema))]
        for position, column in zip(self._raw_positions, raw, strict=True):
            columns[position] = column
        with np.errstate(all="ignore"):
            filled = [
                (
                    place,
                    self._filled(place, columns[place], function(*[columns[i] for i in inputs])),
                )
                for place, function, inputs in self._fills
            ]
            for place, column in filled:
                columns[place] = column
            for place, function, inputs in self._derived:
                columns[place] = function(*[columns[i] for i in inputs])
        for place, column in enumerate(columns):
            out[place] = column
        # One NaN for every missing number: the sign of NaN differs between code paths.
        out[~np.isfinite(out)] = np.nan
        return out

    def _filled(self, place: int, given: Column, follows: Column) -> Column:
        if self._is_category[place]:
            return np.where(given == MISSING, follows, given)
        return np.where(np.isnan(given), follows, given)

    def _typed(self, feature: FeatureDefinition, column: Column | None, n: int) -> Column:
        """Return a contiguous column of the declared type; an absent one is all missing."""
        if feature.kind == "category":
            if column is None:
                return np.zeros(n, dtype=np.int64)
            codes = np.ascontiguousarray(column, dtype=np.int64)
            valid = (codes >= MISSING) & (codes < feature.codes_end)
            return codes if valid.all() else np.where(valid, codes, UNSEEN)
        if column is None:
            return np.full(n, np.nan, dtype=np.float32)
        return np.ascontiguousarray(column, dtype=np.float32)

    def _plain_rows(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        if self._composed.is_needed:
            rows = [self._composed.plain(attributes) for attributes in rows]
        for name in set().union(*rows):
            self._raw_place(name)
        return rows

    def _raw_place(self, name: str) -> int:
        place = self._raw_places.get(name)
        if place is None:
            raise UnknownFeature(
                f"'{name}' is not a raw column of '{self.view.name}'. "
                f"Known: {', '.join(self.view.attributes)}."
            )
        return place

    def _probe(self) -> None:
        """Refuse at start-up a function that returns another type or shape than it declares."""
        columns: list[Column] = [np.empty(0)] * len(self.schema)
        for position, feature in zip(self._raw_positions, self.raw, strict=True):
            columns[position] = self._typed(feature, None, 3)
        for name, column in self._composed.of_nothing(3).items():
            self._refuse_type(self.schema.features[self.schema.position(name)], column)
        for place, function, inputs in self._derived:
            with np.errstate(all="ignore"):
                columns[place] = function(*[columns[i] for i in inputs])
            self._refuse_type(self.schema.features[place], columns[place])

    def _refuse_type(self, feature: FeatureDefinition, column: Column) -> None:
        expected = np.int64 if feature.kind == "category" else np.float32
        if getattr(column, "dtype", None) != expected or column.shape != (3,):
            raise DefinitionError(
                f"Feature '{feature.name}' returned {getattr(column, 'dtype', type(column))} "
                f"of shape {getattr(column, 'shape', None)} for 3 rows; a {feature.kind} "
                f"returns {np.dtype(expected)} of shape (3,). Cast constants with np.float32."
            )
