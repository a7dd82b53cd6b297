"""Which of Feast's views and sources are ours: known by source and definition, not by a name.

Another Feast project may call a view of its own ``user_features``. It is ours only if it reads the
rows that we wrote, and has the features that this code defines.
"""

from __future__ import annotations

from typing import Any

from click import ClickException
from feast import FeatureView
from feast.data_source import DataSource
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
)
from feast.types import Bytes

from feature_store.definitions import windowed_view as ours
from feature_store.errors import FeatureStoreError, SchemaMismatch, UnknownFeature
from feature_store.feast_plugin.definitions import (
    FINGERPRINT,
    PACKED,
    PACKED_VIEW,
    feast_type,
    key_fields,
    shown_columns,
    source_table,
)
from feature_store.feature_definitions import VIEWS
from feature_store.offline import tables
from feature_store.offline.versions import CATALOGUE
from feature_store.offline_store import OfflineStore


class ForeignView(UnknownFeature, ClickException):
    """A view that says it is one of ours and is none; Feast's command shows it as one line."""


def own_view(table: Any) -> ours.View | None:
    """The view of ours that a Feast view is, or whose packed attributes it is; None if foreign.

    Raises
    ------
    SchemaMismatch
        If it is registered as another version of our view than this code defines.
    """
    view = _namesake(table)
    if view is None or own_source(getattr(table, "batch_source", None)) is not view:
        return None
    registered = table.tags.get(FINGERPRINT, view.schema.fingerprint)
    if registered != view.schema.fingerprint:
        raise SchemaMismatch(
            f"Feast's registry holds version {registered} of '{view.name}'; this code defines "
            f"{view.schema.fingerprint}. Run `feast apply` with the code that is to read it."
        )
    keys = {column.name: column.dtype for column in table.entity_columns}
    fields = {field.name: field.dtype for field in table.features}
    expected = packed_fields(view) if is_packed(table) else fields_of(view)
    return view if keys == key_fields(view) and fields == expected else None


def is_foreign(table: Any) -> bool:
    """Whether a Feast view is one of the user's own, and does not say that it is one of ours.

    Raises
    ------
    SchemaMismatch
        If it is registered as another version of our view than this code defines.
    """
    return FINGERPRINT not in table.tags and own_view(table) is None


def known_view(table: Any) -> ours.View:
    """The view of ours that a Feast view is.

    Raises
    ------
    ForeignView
        If it is none, and its tags say that it is.
    SchemaMismatch
        If it is registered as another version than this code defines.
    """
    view = own_view(table)
    if view is not None:
        return view
    if (namesake := _namesake(table)) is None:
        raise ForeignView(
            f"Feature view '{table.name}' is not defined in feature_store/feature_definitions.py. "
            f"Known: {', '.join(view.name for view in VIEWS)}. Define it there and add it to VIEWS."
        )
    raise ForeignView(
        f"Feature view '{table.name}' has the name and the tag {FINGERPRINT} of a view of ours, "
        f"and is another: {difference(table, namesake)}. Take the tag away, and it is stored "
        "online as a view of your own."
    )


def own_source(source: DataSource | None) -> ours.View | None:
    """The view whose rows (or events) a Feast source names exactly as `feast_source` does."""
    if not isinstance(source, PostgreSQLSource) or source.field_mapping:
        return None
    times = source.timestamp_field, source.created_timestamp_column
    if times != ("event_timestamp", "created_timestamp"):
        return None
    table = source.get_table_query_string()
    for view in VIEWS:
        # The events of a windowed view are also a table of their own, to read as it is.
        is_named = not isinstance(view, ours.ActivityView) or source.name == view.name
        if is_named and table == source_table(view):
            return view
    return None


def stored_here(view: ours.View, store: OfflineStore) -> bool:
    """Whether a table with a view's name is ours: another database may have one of its own."""
    names = CATALOGUE, source_table(view)
    asked = ", ".join(f"to_regclass('{name}') IS NOT NULL AS {name}" for name in names)
    has_catalogue, has_table = store.postgres.query(f"SELECT {asked}").row(0)
    if not has_table:
        return True  # it will be ours once it is filled
    if isinstance(view, ours.ActivityView):  # its events may come before any version of it
        return bool(has_catalogue)
    return bool(has_catalogue and store.versions.versions(view.name))


def refuse_own_tables(table: str, store: OfflineStore) -> None:
    """Refuse to write rows that are not those of our view into a table of ours.

    Raises
    ------
    FeatureStoreError
        With the way in that the table has.
    """
    for view in VIEWS:
        names = {source_table(view), tables.table_name(view.schema)}
        if table.removeprefix("public.").strip('"') in names and stored_here(view, store):
            raise FeatureStoreError(
                f"Table '{table}' holds the rows of '{view.name}'; only rows of that very view are "
                f"written into it. Push to '{view.name}_push', or name another table."
            )


def is_packed(table: Any) -> bool:
    """Whether a view of ours is that of the packed attributes."""
    return bool(table.name.endswith(PACKED_VIEW))


def fields_of(view: ours.View) -> dict[str, Any]:
    """Features of a view and their types in Feast."""
    return {name: feast_type(column) for name, column in shown_columns(view.schema).items()}


def packed_fields(view: ours.View) -> dict[str, Any]:
    """The only feature of the view of packed attributes, and its type in Feast."""
    return {f"{PACKED}{view.name}": Bytes}


def difference(table: FeatureView, view: ours.View) -> str:
    """What makes a Feast view another one than ours, in words."""
    source = getattr(table, "batch_source", None)
    if own_source(source) is not view:
        name = getattr(source, "get_table_query_string", lambda: type(source).__name__)()
        return f"it reads {name}, ours {source_table(view)} with its event and created time"
    given, expected = {f.name: f.dtype for f in table.features}, fields_of(view)
    odd = sorted(name for name in {*given, *expected} if given.get(name) != expected.get(name))
    return f"its key or fields differ ({', '.join(odd[:5]) or table.entities})"


def _namesake(table: Any) -> ours.View | None:
    """The view of ours that has the name, or whose packed attributes have it."""
    own = str(table.name).removesuffix(PACKED_VIEW)
    return next((view for view in VIEWS if view.name == own), None)
