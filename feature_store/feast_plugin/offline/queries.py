"""The SQL that reads a Feast source: our views by their definition, other tables as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from feast import FeatureView
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
)

from feature_store.definitions.entity import Entity
from feature_store.definitions.windowed_view import ActivityView
from feature_store.errors import FeatureStoreError
from feature_store.feast_plugin.identity import own_source, stored_here
from feature_store.offline import events, tables
from feature_store.offline.postgres import Postgres
from feature_store.offline_store import OfflineStore

TEXTS = {"uuid": "::text", "uuid[]": "::text[]"}
"""Types of PostgreSQL that Feast takes as texts alone, and their casts."""


@dataclass(frozen=True)
class FromClause:
    """Rows to select from.

    Parameters
    ----------
    rows
        The table or subquery that they are in, as SQL.
    event_time, created_time
        Names of the time columns; a source may not know when it learned its rows.
    by_entity
        Whether an index leads from the key and the times to a row, as in our own tables.
    key, identity
        Of those: what the rows are about, where its key is no whole number, and the column that
        holds the identity.
    texts
        Columns that are read as texts, and their types in PostgreSQL: it sends bytes of a UUID.
    """

    rows: str
    event_time: str
    created_time: str | None
    by_entity: bool = False
    key: Entity | None = None
    identity: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)

    def select(
        self,
        columns: Mapping[str, str],
        where: Sequence[str] = (),
        distinct: bool = False,
        as_text: Sequence[str] = (),
    ) -> str:
        """Query the columns (name in the result to name in the source) of the rows.

        Parameters
        ----------
        as_text
            Columns that are compared with texts: a UUID, for example.
        """
        kept = f" WHERE {' AND '.join(where)}" if where else ""
        chosen = ", ".join(self.named(columns, as_text))
        return f"SELECT {'DISTINCT ' * distinct}{chosen} FROM {self.rows}{kept}"

    def named(self, columns: Mapping[str, str], as_text: Sequence[str] = ()) -> list[str]:
        """SQL of the columns under the names that they have in the result."""
        casts = dict.fromkeys(as_text, "::text") | {
            alias: TEXTS[self.texts[name]] for alias, name in columns.items() if name in self.texts
        }
        return [
            f"{quoted(name)}{casts.get(alias, '')} AS {quoted(alias)}"
            for alias, name in columns.items()
        ]

    def newest(self, columns: Mapping[str, str], keys: Sequence[str], where: Sequence[str]) -> str:
        """Query the newest row of each key (of all, without keys), ties by the created time."""
        by = [quoted(key) for key in keys]
        times = [name for name in (self.event_time, self.created_time) if name]
        order = ", ".join([*by, *(f"{quoted(name)} DESC" for name in times)])
        select = self.select(columns, where).removeprefix("SELECT ")
        if not by:
            return f"SELECT {select} ORDER BY {order} LIMIT 1"
        return f"SELECT DISTINCT ON ({', '.join(by)}) {select} ORDER BY {order}"

    def typed(self, postgres: Postgres) -> FromClause:
        """The rows, with what has to be read of them as texts; our own have nothing of it."""
        if self.by_entity:
            return self
        types = column_types(postgres, self.rows)
        return replace(self, texts={name: kind for name, kind in types if kind in TEXTS})

    def of_nobody(self) -> FromClause:
        """The rows of a view without entities, under the key that Feast gives them all."""
        rows = f"(SELECT *, '{DUMMY_ENTITY_VAL}' AS {quoted(DUMMY_ENTITY_ID)} FROM {self.rows})"
        return replace(self, rows=f"{rows} AS of_nobody")

    def between(self, start: datetime | None, end: datetime | None) -> list[str]:
        """Conditions that keep the events in ``[start, end)``."""
        event = quoted(self.event_time)
        since = [f"{event} >= {moment(start)}"] if start else []
        return since + ([f"{event} < {moment(end)}"] if end else [])


def clause_of(data_source: DataSource, store: OfflineStore) -> FromClause:
    """The rows that a Feast source names, and their times.

    Our own source of a view holds exactly the rows of this code's definition of it.

    Raises
    ------
    FeatureStoreError
        If the source is not in PostgreSQL.
    SchemaMismatch
        If the store holds no rows of this definition of the view.
    """
    if not isinstance(data_source, PostgreSQLSource):
        raise FeatureStoreError(
            f"Source '{data_source.name}' is a {type(data_source).__name__}; this offline store "
            "reads a PostgreSQLSource."
        )
    columns = columns_of(data_source)
    given = data_source.timestamp_field, data_source.created_timestamp_column or ""
    times = columns.get(given[0], given[0]), columns.get(given[1], given[1]) or None
    view = own_source(data_source)
    if isinstance(view, ActivityView) and stored_here(view, store):
        return FromClause(f"{readable_events(view.key)} AS source", *times)
    if view is None or isinstance(view, ActivityView) or not stored_here(view, store):
        return FromClause(f"{data_source.get_table_query_string()} AS source", *times)
    store.table(view.schema)
    key = view.schema.key
    readable = tables.readable_rows(view.schema, view.entity, with_identity=key is not None)
    rows, identity = f"({readable}) AS source", tables.IDENTITY if key else view.entity
    return FromClause(rows, *times, by_entity=True, key=key, identity=identity)


def readable_events(key: Entity) -> str:
    """SQL of the events of a windowed view, for FROM: each with the columns of its key."""
    if key.columns == ("user_id",) and key.is_whole:
        return events.TABLE
    columns = "event_id, event_timestamp, event_type, amount_cents, created_timestamp"
    if key.is_whole:
        return f"(SELECT user_id AS {key.columns[0]}, {columns} FROM {events.TABLE})"
    parts = ", ".join(tables.key_columns(key, "keys.key"))
    return (
        f"(SELECT {parts}, {columns} FROM {events.TABLE} JOIN entity_keys AS keys "
        f"ON keys.entity = '{key.name}' AND keys.id = {events.TABLE}.user_id)"
    )


def column_types(postgres: Postgres, rows: str) -> list[tuple[str, str]]:
    """The columns of some rows, and their types as PostgreSQL calls them."""
    with postgres.transaction() as connection:
        described = connection.execute(f"SELECT * FROM {rows} LIMIT 0").description or []
        names = [column.name for column in described]
        types = connection.execute(
            "SELECT format_type(oid, NULL) FROM unnest(%s::oid[]) WITH ORDINALITY AS t(oid, place) "
            "ORDER BY place",
            ([column.type_code for column in described],),
        ).fetchall()
    return [(name, kind) for name, (kind,) in zip(names, types, strict=True)]


def source_columns(view: FeatureView) -> dict[str, str]:
    """Name in the view to name in its source, where they differ."""
    return columns_of(batch_source(view))


def columns_of(data_source: DataSource) -> dict[str, str]:
    """Name in a view to name in the source, where they differ."""
    return {name: column for column, name in (data_source.field_mapping or {}).items()}


def batch_source(view: FeatureView) -> DataSource:
    """The table of a view.

    Raises
    ------
    FeatureStoreError
        If it has none.
    """
    if view.batch_source is None:
        raise FeatureStoreError(
            f"Feature view '{view.name}' has no batch source. Give it a PostgreSQLSource."
        )
    return view.batch_source


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def moment(time: datetime) -> str:
    """A time as an SQL literal that compares with timestamps with and without a zone, in UTC."""
    aware = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return f"'{aware.isoformat()}'"
