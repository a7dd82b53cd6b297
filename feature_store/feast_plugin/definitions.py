"""Feast's objects, derived from our views: no feature is listed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pyarrow as pa
from feast import (
    Entity,
    FeatureService,
    FeatureView,
    Field,
    OnDemandFeatureView,
    PushSource,
    ValueType,
)
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
)
from feast.types import FeastType, Float32, Int64, String, from_feast_to_pyarrow_type

from feature_store.definitions import windowed_view as ours
from feature_store.definitions.schema import FeatureDefinition
from feature_store.errors import UnknownFeature
from feature_store.feast_plugin.logging import PostgresLoggingDestination
from feature_store.feature_definitions import VIEWS
from feature_store.offline import events as activity_events

FEAST_TYPES: dict[str, FeastType] = {"integer": Int64, "number": Float32, "category": String}


PACKED_VIEW = "_packed"
"""Suffix that makes a view's name the name of the view of its packed attributes."""


def our_view(name: str) -> ours.View | None:
    """The view of `feature_definitions` whose rows Feast knows under this name, if there is one."""
    own = name.removesuffix(PACKED_VIEW)
    return next((view for view in VIEWS if view.name == own), None)


def known_view(name: str) -> ours.View:
    """The view of `feature_definitions` with this name.

    Raises
    ------
    UnknownFeature
        If there is none: only views whose layout is known can be packed.
    """
    view = our_view(name)
    if view is None:
        raise UnknownFeature(
            f"Feature view '{name}' is not defined in feature_store/feature_definitions.py. "
            f"Known: {', '.join(view.name for view in VIEWS)}. Define it there and add it to VIEWS."
        )
    return view


def arrow_types(view: ours.View) -> dict[str, pa.DataType]:
    """The columns of a view's rows, as Feast reads and writes them."""
    time = pa.timestamp("us", "UTC")
    features = {
        feature.name: from_feast_to_pyarrow_type(FEAST_TYPES[feature.kind])
        for feature in view.schema.features
    }
    return {view.entity: pa.int64(), "event_timestamp": time, "created_timestamp": time} | features


def feast_entity(view: ours.View) -> Entity:
    """The entity of a view."""
    return Entity(
        name=view.entity,
        join_keys=[view.entity],
        value_type=ValueType.INT64,
        description=f"Key of the entities of {view.name}.",
        tags=view.tags,
        owner=_owner(view),
    )


def feast_source(view: ours.View) -> PushSource:
    """Where the rows of a view come from: its table in PostgreSQL, or pushed by a client.

    What is pushed to a windowed view is events.
    """
    windowed = isinstance(view, ours.ActivityView)
    table = PostgreSQLSource(
        name=view.name,
        table=activity_events.TABLE if windowed else view.name,
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
        description=f"The events that {view.name} counts and adds up."
        if windowed
        else f"The rows of {view.name}, readable: words in place of category codes.",
        tags=view.tags,
        owner=_owner(view),
    )
    return PushSource(
        name=f"{view.name}_push",
        batch_source=table,
        description=f"{'Events' if windowed else 'Rows'} of {view.name} pushed by clients.",
        tags=view.tags,
        owner=_owner(view),
    )


def feast_view(
    view: ours.View, entity: Entity, source: PushSource, ttl: timedelta | None = None
) -> FeatureView:
    """The view with all its features; without ``ttl`` its rows never expire."""
    key = Field(name=view.entity, dtype=Int64)
    return FeatureView(
        name=view.name,
        entities=[entity],
        schema=[key, *(_field(feature) for feature in view.schema.features)],
        source=source,
        ttl=ttl or timedelta(0),
        description=f"{len(view.schema)} features of {view.entity}.",
        tags={**view.tags, "schema_fingerprint": view.schema.fingerprint},
        owner=_owner(view),
    )


def feast_service(
    name: str, views: Sequence[FeatureView | OnDemandFeatureView], owner: str = ""
) -> FeatureService:
    """Everything that a model reads; what is logged of it goes to the table ``<name>_served``."""
    served = f"{name}_served".replace("-", "_")
    return FeatureService(
        name=name,
        features=list(views),
        description=f"The features of {', '.join(view.name for view in views)}.",
        logging_config=LoggingConfig(destination=PostgresLoggingDestination(served)),
        owner=owner,
    )


def _field(feature: FeatureDefinition) -> Field:
    facts = {
        "kind": feature.kind,
        "unit": feature.unit,
        "made_from": ", ".join(feature.inputs),
        "protected": "true" if feature.protected else "",
        **feature.rule,
    }
    return Field(
        name=feature.name,
        dtype=FEAST_TYPES[feature.kind],
        description=feature.description,
        tags={**feature.tags, **{name: fact for name, fact in facts.items() if fact}},
    )


def _owner(view: ours.View) -> str:
    return view.tags.get("team", "")
