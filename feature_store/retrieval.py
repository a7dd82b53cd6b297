"""The few functions that people call directly: features of the past, and of now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.section import utc_time
from configs.settings import load_settings
from feature_store.connect import offline_store, online_store, ttl, view_ttl
from feature_store.definitions.entity import KeyValue
from feature_store.errors import FeatureStoreError
from feature_store.offline.postgres import Postgres
from feature_store.offline.vocabularies import Vocabularies
from feature_store.offline_store import missing_vector
from feature_store.online_store import read_views
from feature_store.references import by_view, refuse_several_entities, resolve
from infrastructure.embedded import postgres_url

if TYPE_CHECKING:
    import pandas as pd


def get_training_data(
    feature_refs: Sequence[str],
    label_column: str,
    start_date: datetime | str,
    end_date: datetime | str,
    known_by: datetime | str | None = None,
) -> tuple[pd.DataFrame, pd.Series]:
    """Features as of each label's time, and the labels, for label times in ``[start, end)``.

    Parameters
    ----------
    feature_refs
        ``["user_features:age", "user_activity:events_count_7d", …]``; ``["user_features:*"]`` for
        all of a view.
    label_column
        Name of the label, as in the feature settings.
    start_date, end_date
        UTC unless they say otherwise; ``"2020-01-01"`` works too.
    known_by
        Only what the store had learned by then, of features as of labels: the training set of a
        past day, whatever came or was corrected since.

    Returns
    -------
    features, labels
        A frame ``(n, p)`` of decoded values (words, whole numbers, NaN or None for missing) and a
        series ``(n,)`` of 0 and 1, both indexed by the entity key. Entities that no view knows at
        the time of their label are left out.

    Raises
    ------
    FeatureStoreError
        If a feature or the label is unknown, or the range holds no labels.
    """
    from feature_store.training_data import training_frame

    settings = load_settings()
    known = settings.feature.source.label_column
    if label_column != known:
        raise FeatureStoreError(f"Label '{label_column}' is not known. Known: {known or 'none'}.")
    return training_frame(
        offline_store(settings),
        resolve(feature_refs),
        label_column,
        utc_time(start_date),
        utc_time(end_date),
        ttl=ttl(settings),
        known_by=None if known_by is None else utc_time(known_by),
    )


def get_online_features(entity_id: KeyValue, features: Sequence[str]) -> Mapping[str, Any]:
    """Newest values of some features of one entity, from Redis, in one round trip.

    Parameters
    ----------
    entity_id
        The entity's key: a ``user_id``, or the texts and numbers that its definition says.
    features
        Names, with or without the view: ``"age"``, ``"user_features:age"``, ``"user_features:*"``,
        ``"user_activity:events_count_7d"``.

    Returns
    -------
    Name to value: words for categories, whole numbers where declared, exact columns in their own
    types, None for missing and for a view that has no row of the entity.

    Raises
    ------
    UnknownFeature, InvalidValue, EntityNotFound, StoreUnavailable
        If a name is unknown, the key is none of the views', no view has a row, or Redis does not
        answer within the deadline.
    """
    references, settings = resolve(features), load_settings()
    if not references:
        return {}
    refuse_several_entities(references)
    entity = references[0].view.key
    identity = entity.identity(entity.read(entity_id))
    deadline_ms = settings.feature.online.read_deadline_ms
    schemas = [view.schema for view, _ in by_view(references)]
    first = online_store(settings, deadline_ms, schemas[0])
    stores = [first, *(first.of(schema, view_ttl(settings, schema)) for schema in schemas[1:])]
    values: dict[tuple[str, str], Any] = {}
    for store, row in zip(stores, read_views(stores, identity), strict=True):
        if row is None:
            nothing = (None,) * len(store.schema.exact)
            decoded = store.schema.decode(missing_vector(store.schema), nothing)
        else:
            schema = store.schema
            if schema.open_features:
                known = _vocabularies(postgres_url(settings))
                schema = known.schema_of(schema, row.vector[np.newaxis])
            decoded = schema.decode(row.vector, row.exact)
        values |= {(store.schema.view, name): value for name, value in decoded.items()}
    return {each.name: values[each.view.name, each.name] for each in references}


@cache
def _vocabularies(url: str) -> Vocabularies:
    return Vocabularies(Postgres(url))
