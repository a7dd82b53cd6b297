"""What a historical request asks of each view, and of whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from feast import FeatureView
from feast.feature_view import DUMMY_ENTITY_ID
from feast.utils import compute_non_entity_date_range

from feature_store import offline_store as ours
from feature_store.definitions.windowed_view import ActivityView
from feature_store.errors import FeatureStoreError
from feature_store.feast_plugin import activity
from feature_store.feast_plugin.identity import is_packed, known_view, own_view
from feature_store.feast_plugin.offline.queries import batch_source, clause_of, source_columns
from feature_store.feast_plugin.offline.retrieval import (
    Request,
    ViewRequest,
    every_event,
    requested_features,
)
from feature_store.feast_plugin.on_demand import raw_columns


def requests_of(
    wanted: Mapping[FeatureView, list[str]], store: ours.OfflineStore, full_names: bool
) -> tuple[list[Request], list[str]]:
    """What to read of each view, and the views whose raw attributes are to be packed."""
    requests: list[Request] = []
    packed = []
    for view, names in wanted.items():
        as_one = own_view(view) is not None and is_packed(view)
        request = _request(view, [] if as_one else names, store, full_names)
        if as_one and isinstance(request, ViewRequest):
            own = known_view(view)
            table = store.table(own.schema)
            codes = replace(request.source, rows=table, identity=own.entity)
            request = replace(request, source=codes, features=raw_columns(own.name))
            packed.append(own.name)
        requests.append(request)
    return requests, packed


def _request(
    view: FeatureView, names: list[str], store: ours.OfflineStore, full_names: bool
) -> Request:
    columns, aliases = source_columns(view), view.projection.join_key_map
    keys, table = [column.name for column in view.entity_columns], batch_source(view)
    keys = keys or [DUMMY_ENTITY_ID]
    source = clause_of(table, store)
    source = source.of_nobody() if keys == [DUMMY_ENTITY_ID] else source
    by = {aliases.get(key, key): columns.get(key, key) for key in keys}
    features = requested_features(view, names, full_names)
    windowed = own_view(view)
    if isinstance(windowed, ActivityView):
        return activity.ActivityRequest(windowed, source, by, features)
    return ViewRequest(source, by, features, view.ttl or None)


def entity_rows(
    entity_df: pd.DataFrame | str | None,
    views: list[FeatureView],
    requests: Sequence[Request],
    store: ours.OfflineStore,
    options: dict[str, Any],
) -> pd.DataFrame:
    """The entity rows: a frame, the result of a query, or a row for every event (None)."""
    if isinstance(entity_df, pd.DataFrame):
        return entity_df.reset_index(drop=True)
    if entity_df is not None:
        return store.postgres.query(entity_df).to_pandas()
    start, end = compute_non_entity_date_range(
        views, start_date=options.get("start_date"), end_date=options.get("end_date")
    )
    return every_event(store.postgres, requests, start, end)


def refuse_missing_keys(rows: pd.DataFrame, requests: Sequence[Request]) -> None:
    """Refuse entity rows that lack a key of a view.

    Raises
    ------
    FeatureStoreError
        With the columns that are missing, and those that are there.
    """
    keys = {key for request in requests for key in request.keys}
    missing = keys - {*rows.columns, DUMMY_ENTITY_ID}
    if missing:
        raise FeatureStoreError(
            f"The entity rows have no column {', '.join(sorted(missing))}. "
            f"They have: {', '.join(map(str, rows.columns))}."
        )


def refuse_same_names(rows: pd.DataFrame, requests: Sequence[Request]) -> None:
    """Refuse entity rows with a column that is called like a wanted feature.

    Raises
    ------
    FeatureStoreError
        With the name, and what to do.
    """
    both = {name for request in requests for name in request.features} & set(rows.columns)
    if both:
        raise FeatureStoreError(
            f"The entity rows have a column '{min(both)}', and so has the result a feature. Rename "
            "the column, or ask with full_feature_names=True."
        )
