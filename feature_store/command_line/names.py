"""Arguments that commands share, and what they name: views, features, versions and entities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from configs.errors import did_you_mean
from feature_store.command_line.facts import Column, column_named, columns_of
from feature_store.definitions.entity import KeyValue
from feature_store.definitions.schema import FeatureSchema
from feature_store.definitions.windowed_view import View
from feature_store.errors import EntityNotFound, FeatureStoreError, UnknownFeature
from feature_store.feature_definitions import VIEWS
from feature_store.offline_store import OfflineStore
from feature_store.references import view_named

ViewOption = Annotated[str, typer.Option(help="The feature view.")]
ViewArgument = Annotated[str, typer.Argument(help="A feature view.")]
KeyOption = Annotated[
    str,
    typer.Option(
        "--key",
        "--user-id",
        metavar="KEY",
        help="The entity's key; one of several parts as they are defined: JFK,LAX",
    ),
]
VersionOption = Annotated[
    str | None,
    typer.Option(help="Fingerprint of a stored version, or its beginning; this code's if absent."),
]


def referred(reference: str, views: Sequence[View] = VIEWS) -> tuple[View, Column | None]:
    """The view, and the column if one is named, of ``VIEW``, ``VIEW:COLUMN`` or ``COLUMN``."""
    name, _, column = reference.partition(":")
    if column:
        view = view_named(name, views)
        view.schema.require(column)
        return view, column_named(view, column)
    for view in views:
        if (found := column_named(view, name)) is not None:
            return view, found
    known = [view.name for view in views]
    known += [each.name for view in views for each in columns_of(view)]
    if name not in known:
        raise UnknownFeature(
            f"'{name}' is no view and no feature. {did_you_mean(name, known, 0.5)}"
            "See them all: python -m feature_store list"
        )
    return view_named(name, views), None


def schema_of(view: View, version: str | None, offline: OfflineStore) -> FeatureSchema:
    """The schema of a stored version, or of the one that this code defines."""
    stored = None if version is None else offline.versions.find(view.name, version).schema
    return offline.vocabularies.schema(stored or view.schema)


def unknown_entity(
    view: View, key: KeyValue, offline: OfflineStore, error: EntityNotFound | None = None
) -> EntityNotFound:
    """The error for an entity that has no rows, with the nearest one that has."""
    text = view.key.text(key)
    try:
        near = _nearest(view, key, offline)
    except FeatureStoreError:
        near = None
    if error is None or not view.key.is_whole:
        found = f"No rows of {view.name} {text}"
    else:
        found = str(error).split(". ")[0]
    hint = f"Did you mean {near}?" if near is not None else "The store has no rows yet."
    return EntityNotFound(f"{found}. {hint}")


def _nearest(view: View, key: KeyValue, offline: OfflineStore) -> str | None:
    table, column = offline.table(view.schema), view.entity
    if view.key.is_whole:
        stored, at, distance = column, "%(at)s", f"abs({column} - %(at)s::numeric)"
        rows = table
    else:
        # In the order of the texts: the neighbours have most of their beginning in common.
        stored, at, distance = "key", "%(at)s::text", "key"
        rows = f"(SELECT key FROM entity_keys WHERE entity = '{view.entity}') AS known"
    query = (
        f"SELECT {stored} FROM ((SELECT {stored} FROM {rows} WHERE {stored} <= {at} "
        f"ORDER BY {stored} DESC LIMIT 1) UNION ALL (SELECT {stored} FROM {rows} "
        f"WHERE {stored} >= {at} ORDER BY {stored} LIMIT 1)) AS near ORDER BY {distance} LIMIT 1"
    )
    at_key = key if view.key.is_whole else view.key.text(key)
    with offline.postgres.transaction() as connection:
        row = connection.execute(query, {"at": at_key}).fetchone()
    return str(row[0]) if row else None
