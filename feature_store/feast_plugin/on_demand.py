"""Features as a request changes them: raw attributes that it gives win over the stored ones.

What follows from a given attribute follows anew, computed by the engine that computes everything.
The stored attributes are the only feature of the view ``<view>_packed``, which is read from the
view's own rows (see `packing`).
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Any, cast

import pandas as pd
import pyarrow as pa
from feast import Entity, FeatureView, Field, OnDemandFeatureView, RequestSource
from feast.types import Bytes, Int64, String, from_feast_to_pyarrow_type

from feature_store.definitions import view as ours
from feature_store.feast_plugin.definitions import FEAST_TYPES, PACKED_VIEW
from feature_store.feast_plugin.packing import ATTRIBUTES, PACKED, packing_of


class KnownFields(OnDemandFeatureView):
    """An on-demand view whose features are all defined; Feast would try them on made-up values."""

    def infer_features(self) -> None:
        """Infer nothing."""


def packed_view(view: ours.FeatureView, entity: Entity, table: FeatureView) -> FeatureView:
    """The raw attributes of a view's rows as one value; there is nothing to materialize."""
    return FeatureView(
        name=f"{view.name}{PACKED_VIEW}",
        entities=[entity],
        schema=[
            Field(name=view.entity, dtype=Int64),
            Field(name=f"{PACKED}{view.name}", dtype=Bytes),
        ],
        source=table.batch_source,
        ttl=table.ttl,
        online=False,
        description=f"Raw attributes of {view.name} as one value, for {view.name}_on_request.",
        tags=view.tags,
        owner=table.owner,
    )


def on_demand_view(view: ours.FeatureView, packed: FeatureView) -> OnDemandFeatureView:
    """The features of a view as a request changes them: ``<view>_on_request``, the same names."""
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
    first, *_ = [name for name in inputs if name.rpartition("__")[2].startswith(PACKED)]
    view = first.rpartition(PACKED)[2]
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
    return table.select([name for name in table.column_names if not name.startswith(PACKED)])
