"""Feast's objects, derived from our views: no feature is listed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

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
from feast.types import Array, Bool, FeastType, Float32, Float64, Int64, String, UnixTimestamp

from feature_store.definitions import windowed_view as ours
from feature_store.definitions.arrays import ArrayColumn
from feature_store.definitions.exact import ExactColumn, ExactType
from feature_store.definitions.schema import FeatureDefinition, FeatureSchema
from feature_store.feast_plugin.logging import PostgresLoggingDestination
from feature_store.offline import events as activity_events

FEAST_TYPES: dict[str, FeastType] = {
    **{"integer": Int64, "number": Float32},
    **{"category": String, "boolean": Bool},
}
SQL_TYPES = {"integer": "bigint", "number": "real", "category": "text", "boolean": "boolean"}
EXACT_TYPES: dict[ExactType, FeastType] = {
    **{"int64": Int64, "float64": Float64},
    **{"string": String, "timestamp": UnixTimestamp},
}
EXACT_SQL_TYPES: dict[ExactType, str] = {
    **{"int64": "bigint", "float64": "double precision"},
    **{"string": "text", "timestamp": "timestamp with time zone"},
}
LOOKUP = "lookup"
"""What the tag ``kind`` of an exact column says."""
ARRAY = "array"
"""What the tag ``kind`` of an array says."""
Shown = FeatureDefinition | ExactColumn | ArrayColumn
"""What Feast shows as one field."""


PACKED_VIEW = "_packed"
"""Suffix that makes a view's name the name of the view of its packed attributes."""
PACKED = "packed_"
"""Prefix of the name of the value that holds a row's stored raw attributes, before the view's."""
FINGERPRINT = "schema_fingerprint"
"""Tag of a Feast view that says of which definition of ours it was derived."""


def source_table(view: ours.View) -> str:
    """The table that Feast reads of a view: its readable rows, or its events."""
    return activity_events.TABLE if isinstance(view, ours.ActivityView) else view.name


def shown_columns(schema: FeatureSchema) -> dict[str, Shown]:
    """What Feast shows of a schema, by name: of a rounded feature the exact column."""
    shown: dict[str, Shown] = {feature.name: feature for feature in schema.features}
    shown |= {column.name: column for column in schema.exact}
    shown |= schema.array_columns
    return {name: shown[name] for name in schema.columns}


def feast_type(column: Shown) -> FeastType:
    """The type that a feature or an exact column has in Feast."""
    if isinstance(column, ArrayColumn):
        return Array(Float32)
    if isinstance(column, ExactColumn):
        return EXACT_TYPES[column.type]
    return FEAST_TYPES[column.kind]


def _sql_type(column: Shown) -> str:
    if isinstance(column, ArrayColumn):
        return "real[]"
    if isinstance(column, ExactColumn):
        return EXACT_SQL_TYPES[column.type]
    return SQL_TYPES[column.kind]


def column_types(view: ours.View) -> dict[str, str]:
    """The columns of a view's readable rows, and their types as PostgreSQL calls them."""
    time = "timestamp with time zone"
    features = {name: _sql_type(column) for name, column in shown_columns(view.schema).items()}
    keys = {
        part.name: {"integer": "bigint", "string": "text"}[part.type] for part in view.key.parts
    }
    return {**keys, "event_timestamp": time, "created_timestamp": time} | features


def feast_entities(view: ours.View) -> list[Entity]:
    """The entity of a view; of a key of several parts one a part, since Feast's have one."""
    types = {"integer": ValueType.INT64, "string": ValueType.STRING}
    return [
        Entity(
            name=part.name,
            join_keys=[part.name],
            value_type=types[part.type],
            description=f"Key of the entities of {view.name}.",
            tags=view.tags,
            owner=_owner(view),
        )
        for part in view.key.parts
    ]


def key_fields(view: ours.View) -> dict[str, FeastType]:
    """The columns of a view's key, and their types in Feast."""
    types: dict[str, FeastType] = {"integer": Int64, "string": String}
    return {part.name: types[part.type] for part in view.key.parts}


def feast_source(view: ours.View) -> PushSource:
    """Where the rows of a view come from: its table in PostgreSQL, or pushed by a client.

    What is pushed to a windowed view is events.
    """
    windowed = isinstance(view, ours.ActivityView)
    table = PostgreSQLSource(
        name=view.name,
        table=source_table(view),
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
    view: ours.View,
    entities: Sequence[Entity],
    source: PushSource,
    ttl: timedelta | None = None,
) -> FeatureView:
    """The view with all its features; without ``ttl`` its rows never expire."""
    columns = shown_columns(view.schema)
    keys = [Field(name=name, dtype=dtype) for name, dtype in key_fields(view).items()]
    return FeatureView(
        name=view.name,
        entities=list(entities),
        schema=[*keys, *map(_field, columns.values())],
        source=source,
        ttl=ttl or timedelta(0),
        description=f"{len(columns)} features of {view.entity}.",
        tags={**view.tags, FINGERPRINT: view.schema.fingerprint},
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


def _field(column: Shown) -> Field:
    facts = {"unit": column.unit, "protected": "true" if column.protected else ""}
    if isinstance(column, ExactColumn):
        facts |= {"kind": LOOKUP}
    elif isinstance(column, ArrayColumn):
        facts |= {"kind": ARRAY, "size": str(column.size)}
    else:
        facts |= {"kind": column.kind, "made_from": ", ".join(column.inputs), **column.rule}
    return Field(
        name=column.name,
        dtype=feast_type(column),
        description=column.description,
        tags={**column.tags, **{name: fact for name, fact in facts.items() if fact}},
    )


def _owner(view: ours.View) -> str:
    return view.tags.get("team", "")
