"""Features as a request changes them: raw attributes that it gives win over the stored ones.

What is derived from a given attribute is computed anew, by the engine that computes everything.
The stored attributes are the only feature of the view ``<view>_packed``, which is read from the
view's own rows as one value. In it they are float32, so a word that was never seen differs from a
missing one: as words both are null.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from functools import cache
from types import FunctionType
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
from feast import Entity, FeatureView, Field, OnDemandFeatureView, RequestSource
from feast.types import Bytes, String, from_feast_to_pyarrow_type
from numpy.typing import NDArray

from feature_store.definitions import view as ours
from feature_store.definitions.arrays import ArrayColumn
from feature_store.definitions.engine import Engine
from feature_store.definitions.exact import ExactColumn
from feature_store.definitions.schema import FIRST_KNOWN, FeatureDefinition
from feature_store.errors import DefinitionError, FeatureStoreError, InvalidValue
from feature_store.feast_plugin.definitions import (
    FEAST_TYPES,
    FINGERPRINT,
    PACKED,
    PACKED_VIEW,
    key_fields,
)
from feature_store.feature_definitions import VIEWS

ATTRIBUTES = "attributes"
"""What a request gives: raw attributes by name, as JSON; ``{"age": null}`` says it is unknown."""
PACKED_NAMES = {f"{PACKED}{view.name}" for view in VIEWS}


class Packing:
    """A view's raw attributes as one value, and the features that are computed from them.

    Examples
    --------
    >>> packing = packing_of("user_features")
    >>> stored = packing.packed(packing.engine.row({"age": 35, "education": "Bachelors"}))
    >>> features = packing.answer([stored, None], ['{"age": 40}', None])
    >>> features["age"], features["education_num"]
    ([40, None], [13, None])
    """

    def __init__(self, view: ours.FeatureView) -> None:
        self.engine = Engine(view)
        self.raw = {feature.name: feature for feature in self.engine.raw}
        self._given_columns: dict[str, FeatureDefinition | ArrayColumn | ExactColumn] = {
            **{feature.name: feature for feature in view.raw_features},
            **view.arrays,
            **{name: view.exact[name] for name in view.timestamps},
        }
        self.places = [view.schema.position(name) for name in self.raw]
        self.missing = self.packed(self.engine.row({}))
        self._words = {
            feature.name: [None] * FIRST_KNOWN + list(feature.categories)
            for feature in view.schema.features
            if feature.kind == "category"
        }

    def packed(self, vector: NDArray[np.float32]) -> bytes:
        """The raw attributes of a vector ``(p,)`` as one value."""
        return vector[self.places].tobytes()

    def unpacked(self, rows: Sequence[bytes | None]) -> NDArray[np.float32]:
        """Vectors ``(n, p)`` of which only the raw attributes are set; all missing where None."""
        held = b"".join(self.missing if row is None else row for row in rows)
        values = np.full((len(rows), len(self.engine.schema)), np.nan, dtype=np.float32)
        values[:, self.places] = np.frombuffer(held, "<f4").reshape(len(rows), len(self.places))
        return values

    def answer(
        self, rows: Sequence[bytes | None], requests: Sequence[object]
    ) -> dict[str, list[Any]]:
        """Features ``(n,)`` by name, as people know them, of packed rows and what is given."""
        given = [self._given(request) for request in requests]
        values = self.engine.overrides(self.unpacked(rows), given)
        return {
            feature.name: self._decoded(feature, values[:, place])
            for place, feature in enumerate(self.engine.schema.features)
        }

    def _decoded(self, feature: FeatureDefinition, column: NDArray[np.float32]) -> list[Any]:
        numbers = column.tolist()
        if feature.kind == "category":
            words = self._words[feature.name]
            return [words[int(code)] for code in numbers]
        types: dict[str, type] = {"integer": int, "boolean": bool}
        number = types.get(feature.kind, float)
        return [number(x) if x == x else None for x in numbers]

    def _given(self, request: object) -> dict[str, Any]:
        if request is None:
            return {}
        try:
            given = json.loads(request) if isinstance(request, str) else request
        except json.JSONDecodeError as error:
            raise FeatureStoreError(f"The request's {ATTRIBUTES} are no JSON: {error}.") from error
        if not isinstance(given, Mapping):
            raise FeatureStoreError(
                f"The request's {ATTRIBUTES} are {request!r}; expected an object of raw "
                'attributes, such as {"age": 35}.'
            )
        for name, value in given.items():
            if name in self._given_columns:  # the engine names those that are not
                _refuse(self._given_columns[name], value)
        return dict(given)


@cache
def packing_of(view: str) -> Packing:
    """The packing of a view, by its name."""
    [own] = (each for each in VIEWS if each.name == view)
    assert isinstance(own, ours.FeatureView)  # a windowed view has no attributes to give
    return Packing(own)


def raw_columns(view: str) -> dict[str, tuple[str, pa.DataType]]:
    """Columns of a table of codes that `pack` makes one of: name, name in the table, type."""
    return {f"{PACKED}{view}.{name}": (name, pa.float32()) for name in packing_of(view).raw}


def pack(table: pa.Table, view: str) -> pa.Table:
    """A table with the columns of `raw_columns` made one; null where no row was found."""
    packing, names = packing_of(view), list(raw_columns(view))
    missing = np.frombuffer(packing.missing, "<f4")
    columns = [
        table[name].fill_null(float(absent)).to_numpy()
        for name, absent in zip(names, missing, strict=True)
    ]
    width = missing.nbytes
    held = np.ascontiguousarray(np.stack(columns, axis=1), dtype="<f4").tobytes()
    rows = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), table.num_rows, [None, pa.py_buffer(held)]
    )
    return table.drop_columns(names).append_column(f"{PACKED}{view}", rows.cast(pa.binary()))


def _refuse(feature: FeatureDefinition | ArrayColumn | ExactColumn, value: object) -> None:
    try:
        feature.refuse(value)
    except InvalidValue as error:
        if not isinstance(feature, FeatureDefinition):
            raise FeatureStoreError(f"The request gives what it cannot: {error}.") from error
        low, high = feature.limits
        number = f"a number from {low:g} to {high:g}"
        others = {"category": "a word", "boolean": "true or false"}
        expected = others.get(feature.kind, number)
        raise FeatureStoreError(
            f"The request gives {feature.name} = {value!r}; expected {expected}, or null."
        ) from error


class KnownFields(OnDemandFeatureView):
    """An on-demand view whose features are all defined; Feast would try them on made-up values."""

    def infer_features(self) -> None:
        """Infer nothing."""


def packed_view(
    view: ours.FeatureView, entities: Sequence[Entity], table: FeatureView
) -> FeatureView:
    """The raw attributes of a view's rows as one value; there is nothing to materialize."""
    return FeatureView(
        name=f"{view.name}{PACKED_VIEW}",
        entities=list(entities),
        schema=[
            *(Field(name=name, dtype=dtype) for name, dtype in key_fields(view).items()),
            Field(name=f"{PACKED}{view.name}", dtype=Bytes),
        ],
        source=table.batch_source,
        ttl=table.ttl,
        online=False,
        description=f"Raw attributes of {view.name} as one value, for {view.name}_on_request.",
        tags={**view.tags, FINGERPRINT: view.schema.fingerprint},
        owner=table.owner,
    )


def on_demand_view(view: ours.FeatureView, packed: FeatureView) -> OnDemandFeatureView:
    """The features of a view as a request changes them: ``<view>_on_request``, the same names."""
    if view.schema.open_features:
        raise DefinitionError(
            f"'{view.name}' has an open vocabulary, whose words are in the offline store: Feast "
            "runs on-demand views where that is not known. Leave its on-demand view out."
        )
    request = RequestSource(
        name=f"{view.name}_request",
        schema=[Field(name=ATTRIBUTES, dtype=String)],
        description=f"Raw attributes of {view.name} as JSON; they win over stored ones.",
    )
    return KnownFields(
        name=f"{view.name}_on_request",
        sources=[packed, request],
        schema=[Field(name=f.name, dtype=FEAST_TYPES[f.kind]) for f in view.schema.features],
        mode="python",
        udf=cast(FunctionType, on_request),
        udf_string=inspect.getsource(on_request),
        description=f"{view.name} with the raw attributes that a request gives in place of stored.",
        tags=view.tags,
        owner=packed.owner,
    )


def on_request(inputs: dict[str, list[object]]) -> object:
    """Feast keeps the text of this function and runs it wherever the view is read."""
    return __import__("feature_store.feast_plugin.on_demand", fromlist=["answer"]).answer(inputs)


def answer(inputs: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Compute all features ``(n,)`` from stored raw attributes and what the request gives.

    Raises
    ------
    FeatureStoreError
        If what it gives is no JSON object, or holds a value that no such attribute can have.
    UnknownFeature
        If it gives something that is no raw attribute.
    """
    first, *_ = [name for name in inputs if name.rpartition("__")[2] in PACKED_NAMES]
    view = first.rpartition("__")[2].removeprefix(PACKED)
    features = packing_of(view).answer(inputs[first], inputs[ATTRIBUTES])
    # Feast hands over both names of a column, first the one that is wanted. It takes online answers
    # as they are; historical ones, which never come under the full name, it renames.
    prefix = f"{view}_on_request__" if "__" in first else ""
    return {prefix + name: column for name, column in features.items()}


def as_text(rows: pd.DataFrame) -> pd.DataFrame:
    """Entity rows with their attributes as JSON: Arrow would give each row the keys of all."""
    if ATTRIBUTES not in rows:
        return rows
    given = [json.dumps(a) if isinstance(a, Mapping) else a for a in rows[ATTRIBUTES]]
    return rows.assign(**{ATTRIBUTES: pd.Series(given, index=rows.index, dtype=object)})


def tidy(table: pa.Table, views: Sequence[OnDemandFeatureView], full_names: bool) -> pa.Table:
    """A result as clients see it: declared types, and without the packed attributes."""
    for view in views:
        name_to_use: str = view.projection.name_to_use()  # type: ignore[no-untyped-call]
        prefix = f"{name_to_use}__" * full_names
        for field in view.features:
            if (name := prefix + field.name) in table.column_names:
                column = table[name].cast(from_feast_to_pyarrow_type(field.dtype))
                table = table.set_column(table.column_names.index(name), name, column)
    return table.select([name for name in table.column_names if name not in PACKED_NAMES])
