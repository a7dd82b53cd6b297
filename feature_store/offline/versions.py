"""The versions of each view in PostgreSQL: which there are, which is current, who reads them.

A version is one definition of a view, named by its fingerprint, with a table of its own. It is
filled beside the others, then switched to in one transaction, and dropped by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from feature_store.definitions.schema import FeatureSchema
from feature_store.definitions.schema_changes import schema_changes, summary
from feature_store.errors import SchemaMismatch, UnknownVersion, VersionInUse
from feature_store.offline import tables
from feature_store.offline.postgres import Postgres, lock_table

if TYPE_CHECKING:
    import psycopg

State = Literal["filling", "current", "previous"]
FILL = "python pipelines/feature_pipeline.py"
REBUILD = "python -m feature_store rebuild"

CATALOGUE = "feature_views"
_COLUMNS = "view, fingerprint, entity, table_name, definition, created_timestamp, switched_at"


@dataclass(frozen=True)
class ViewVersion:
    """One definition of a view whose rows are stored.

    Parameters
    ----------
    definition
        `FeatureSchema.meaning`.
    created_at, switched_at
        When the first rows came, and when it was switched to last (None: not yet).
    is_current
        Whether it was switched to last of all.
    """

    view: str
    fingerprint: str
    entity: str
    table: str
    definition: Sequence[Mapping[str, Any]]
    created_at: datetime
    switched_at: datetime | None
    is_current: bool

    @property
    def state(self) -> State:
        """``filling`` until it is switched to; then ``current``, then ``previous``."""
        if self.switched_at is None:
            return "filling"
        return "current" if self.is_current else "previous"

    @cached_property
    def schema(self) -> FeatureSchema:
        """The features as they were defined, without their functions."""
        return FeatureSchema.from_meaning(self.view, self.definition)


class VersionCatalogue:
    """The tables ``feature_views`` and ``feature_view_readers``.

    Parameters
    ----------
    postgres
        Opens connections to the database.
    """

    def __init__(self, postgres: Postgres) -> None:
        self.postgres = postgres

    def register(self, schema: FeatureSchema, entity: str, *, is_filling: bool = False) -> None:
        """Make sure that a version has its table.

        The first version of a view is current from its first row, since there is nothing older
        to read, unless ``is_filling`` says that more rows must come first. Every later one is
        being filled until `switch`.
        """
        with self.postgres.transaction() as connection:
            if _version(connection, schema.view, schema.fingerprint):
                return
            lock_table(connection, CATALOGUE)
            is_first = not is_filling and not _versions(connection, schema.view)
            registered = connection.execute(
                "INSERT INTO feature_views "
                "(view, fingerprint, entity, table_name, definition, switched_at) "
                "VALUES (%s, %s, %s, %s, %s, CASE WHEN %s THEN clock_timestamp() END) "
                "ON CONFLICT DO NOTHING",
                (
                    *(schema.view, schema.fingerprint, entity),
                    *(tables.table_name(schema), tables.definition_json(schema), is_first),
                ),
            )
            if registered.rowcount == 0 or schema.is_windowed:
                return
            connection.execute(tables.feature_table(schema, entity))
            if is_first:
                connection.execute(tables.readable_view(schema, entity))

    def versions(self, view: str) -> list[ViewVersion]:
        """The versions of a view, the newest first."""
        with self._reading() as connection:
            return _versions(connection, view)

    def current(self, view: str) -> ViewVersion | None:
        """The version that was switched to last; None while there is none."""
        return next((version for version in self.versions(view) if version.is_current), None)

    def find(self, view: str, fingerprint: str) -> ViewVersion:
        """The version whose fingerprint begins so.

        Raises
        ------
        UnknownVersion
            If none does, or several do.
        """
        versions = self.versions(view)
        found = [each for each in versions if fingerprint and _begins(each, fingerprint)]
        if len(found) == 1:
            return found[0]
        known = ", ".join(version.fingerprint for version in versions) or "none"
        problem = "names several versions" if found else "is no version"
        raise UnknownVersion(f"'{fingerprint}' {problem} of '{view}'. Known: {known}.")

    def readable(self, schema: FeatureSchema) -> ViewVersion:
        """The version that ``schema`` is, or was selected from, if it may be read.

        Raises
        ------
        SchemaMismatch
            If it is not stored, with what differs from the current one; or is being filled.
        """
        versions, wanted = self.versions(schema.view), schema.whole or schema
        for version in versions:
            if version.fingerprint == wanted.fingerprint:
                if version.switched_at is None:
                    raise SchemaMismatch(still_filling(wanted))
                return version
        raise SchemaMismatch(_unknown(wanted, versions))

    def switch(self, view: str, fingerprint: str) -> ViewVersion:
        """Make a version the current one, and the readable SQL view show it, at once or not at all.

        Whoever reads another version by its fingerprint goes on reading that one.

        Raises
        ------
        UnknownVersion
            If there is no such version.
        """
        version = self.find(view, fingerprint)
        if version.is_current:
            return version
        with self.postgres.transaction() as connection:
            # Waits for other switches: then times and views agree.
            lock_table(connection, CATALOGUE)
            if not version.schema.is_windowed:
                connection.execute(tables.readable_view(version.schema, version.entity))
            connection.execute(
                "UPDATE feature_views SET switched_at = clock_timestamp() "
                "WHERE view = %s AND fingerprint = %s",
                (view, version.fingerprint),
            )
        return self.find(view, version.fingerprint)

    def uncovered(self, version: ViewVersion) -> tuple[int, int]:
        """How many entities of the current version lack a row in this one, and of how many."""
        current = self.current(version.view)
        if current is None or current.fingerprint == version.fingerprint:
            return 0, 0
        mine = f"SELECT DISTINCT {version.entity} FROM {version.table}"
        theirs = f"SELECT DISTINCT {current.entity} AS entity FROM {current.table}"
        query = (
            f"SELECT count(*) FILTER (WHERE mine.{version.entity} IS NULL), count(*) "
            f"FROM ({theirs}) AS theirs LEFT JOIN ({mine}) AS mine "
            f"ON mine.{version.entity} = theirs.entity"
        )
        with self._reading() as connection:
            row = connection.execute(query).fetchone()
        assert row is not None
        return int(row[0]), int(row[1])

    def drop(self, version: ViewVersion) -> None:
        """Delete a version and its rows.

        Raises
        ------
        VersionInUse
            If it is current, or somebody said that it reads it.
        """
        with self.postgres.transaction() as connection:
            now = _version(connection, version.view, version.fingerprint)
            if now is not None and now.is_current:
                raise VersionInUse(
                    f"Version {version.fingerprint} of '{version.view}' is the current one. "
                    "Switch to another first: python -m feature_store switch-version."
                )
            readers = _readers(connection, version)
            if readers:
                raise VersionInUse(
                    f"Version {version.fingerprint} of '{version.view}' is read by "
                    f"{', '.join(readers)}. Deploy models of another version first."
                )
            key = (version.view, version.fingerprint)
            connection.execute(
                "DELETE FROM feature_views WHERE view = %s AND fingerprint = %s", key
            )
            if not version.schema.is_windowed:  # its versions share the events
                connection.execute(f"DROP TABLE IF EXISTS {version.table}")

    def readers(self, version: ViewVersion) -> list[str]:
        """Who said that it reads this version."""
        with self._reading() as connection:
            return _readers(connection, version)

    def _reading(self) -> AbstractContextManager[psycopg.Connection]:
        return self.postgres.transaction()


def record_readers(connection: psycopg.Connection, owner: str, readers: Mapping[str, str]) -> None:
    """Say, in the caller's transaction, who of an owner reads which version from now on.

    Parameters
    ----------
    owner
        For example a registered model; what it said before is forgotten.
    readers
        Reader (a deployed version of the model) to the fingerprint of the version.
    """
    connection.execute("DELETE FROM feature_view_readers WHERE owner = %s", (owner,))
    for reader, fingerprint in readers.items():
        connection.execute(
            "INSERT INTO feature_view_readers (owner, reader, fingerprint) VALUES (%s, %s, %s)",
            (owner, reader, fingerprint),
        )


def still_filling(wanted: FeatureSchema) -> str:
    """What to say to a reader of a version that has not been switched to."""
    return (
        f"Version {wanted.fingerprint} of '{wanted.view}' is being filled and has not been "
        f"switched to. Complete it: {fill_command(wanted)}"
    )


def fill_command(schema: FeatureSchema) -> str:
    """The command that fills a version: rows of a windowed view are made from stored events."""
    return f"{REBUILD} {schema.view}" if schema.is_windowed else FILL


def not_stored(wanted: FeatureSchema, where: str, stored: str, changes: Sequence[str]) -> str:
    """What to say to a reader of a version that a store does not hold."""
    differs = f" ({summary(changes)})" if changes else ""
    return (
        f"The {where} store holds {stored} of '{wanted.view}'; this code defines "
        f"{wanted.fingerprint}{differs}. Fill it: {fill_command(wanted)}"
    )


def _unknown(wanted: FeatureSchema, versions: Sequence[ViewVersion]) -> str:
    current = next((version for version in versions if version.is_current), None)
    changes = schema_changes(current.definition, wanted.meaning) if current else []
    names = [each.fingerprint + " (current)" * each.is_current for each in versions]
    return not_stored(wanted, "offline", ", ".join(names) or "nothing", changes)


def _versions(connection: psycopg.Connection, view: str) -> list[ViewVersion]:
    rows = connection.execute(
        f"SELECT {_COLUMNS}, switched_at IS NOT NULL AND switched_at = max(switched_at) OVER () "
        "FROM feature_views WHERE view = %s ORDER BY created_timestamp DESC",
        (view,),
    ).fetchall()
    return [ViewVersion(*row) for row in rows]


def _version(connection: psycopg.Connection, view: str, fingerprint: str) -> ViewVersion | None:
    found = [each for each in _versions(connection, view) if each.fingerprint == fingerprint]
    return found[0] if found else None


def _readers(connection: psycopg.Connection, version: ViewVersion) -> list[str]:
    rows = connection.execute(
        "SELECT reader FROM feature_view_readers WHERE fingerprint = %s ORDER BY reader",
        (version.fingerprint,),
    ).fetchall()
    return [reader for (reader,) in rows]


def _begins(version: ViewVersion, fingerprint: str) -> bool:
    return version.fingerprint.startswith(fingerprint)
