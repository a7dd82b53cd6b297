"""Profile changes: attributes of users that change one by one, between full rows of a source."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.engine import Engine, FeatureMatrix
from feature_store.errors import InvalidEvent, StoreUnavailable
from feature_store.offline import tables
from feature_store.offline.entity_keys import note_keys_of
from feature_store.offline.newest_rows import StoredRows, newest_of
from feature_store.offline.postgres import clock, copy_into, lock_table
from feature_store.offline_store import OfflineStore
from feature_store.online_store import OnlineStore
from feature_store.profiles import stored as change_rows
from feature_store.profiles.fold import fold, vectors
from feature_store.profiles.spans import Spans, spans_over

if TYPE_CHECKING:
    import psycopg

USERS_AT_ONCE = 1_000
"""Users whose rows `ProfileWriter.reconcile` derives in one transaction."""
MICROSECOND = np.timedelta64(1, "us")


@dataclass(frozen=True)
class ProfileChange:
    """Some attributes of a user changed.

    Parameters
    ----------
    event_id
        Names the event for good: a second one with the same id is the same one, come again.
    key
        The user.
    time
        When it became true: aware, UTC.
    attributes
        Raw attributes by name, as words and numbers, and lookups as JSON has them; None is missing.
    key_fields
        The columns of the user's key as texts, where it is no whole number.
    """

    event_id: str
    key: int
    time: datetime
    attributes: Mapping[str, Any]
    key_fields: Mapping[str, str] | None = field(default=None, compare=False, repr=False)


class ProfileWriter:
    """Lays changes on full rows, in both stores, each exactly once.

    What is stored in the end depends on the full rows and the changes only: not on their order,
    nor on how often or in what portions they come.

    Parameters
    ----------
    engine
        Of the view that the changes are about; rows of its version are written.
    offline, online
        The stores.
    """

    def __init__(self, engine: Engine, offline: OfflineStore, online: OnlineStore) -> None:
        self.engine = engine
        self.offline = offline
        self.online = online
        self.table = tables.table_name(engine.schema)
        self.entity = engine.view.entity
        self._is_registered = False

    def apply(self, changes: Sequence[ProfileChange], now: datetime) -> int:
        """Log changes and write the rows that follow from them; return how many were new.

        Changes that were applied before have no further effect, except that the online rows of
        their users are written again: a crash may have kept them from it.

        Parameters
        ----------
        now
            Every change must lie before it: a stored row never knows the future.

        Raises
        ------
        InvalidEvent
            If the time of one has not passed, or its id is that of a change that says something
            else; nothing has been stored then.
        StoreUnavailable
            If a store does not answer. What PostgreSQL has committed stays; to apply the changes
            again completes the rest.
        """
        if not changes:
            return 0
        _refuse_the_future(changes, now)
        self._learn(changes)
        with self._writing() as connection:
            note_keys_of(connection, self.engine.schema.key, changes)
            added = _log(connection, changes)
            spans = _spans(connection, changes, added)
            newest, _ = self._derive(connection, spans)
        self.online.write(newest.matrix, newest.created)
        return added

    def reconcile(
        self,
        keys: NDArray[np.int64] | None = None,
        times: NDArray[np.datetime64] | None = None,
    ) -> int:
        """Lay the changes anew on full rows that were appended; return how many rows differed.

        Cheap where there are no changes: one query by index. Killed half-way, run it again.

        Parameters
        ----------
        keys, times
            Users and event times ``(n,)`` of the full rows, in any order. Without times every row
            of these users counts, without keys every user who has changes.

        Raises
        ------
        StoreUnavailable
            If a store does not answer.
        """
        with self.offline.postgres.transaction() as connection:
            spans = change_rows.changed_spans(connection, keys, times)
        self._learn(())
        differed = 0
        for start in range(0, len(spans), USERS_AT_ONCE):
            with self._writing() as connection:
                part = spans.part(slice(start, start + USERS_AT_ONCE))
                newest, appended = self._derive(connection, part)
            self.online.write(newest.matrix, newest.created)
            differed += appended
        return differed

    def _learn(self, changes: Sequence[ProfileChange]) -> None:
        """Bring open vocabularies up to date, and learn the words that the changes bring."""
        view, vocabularies = self.engine.view, self.offline.vocabularies
        names = [feature.name for feature in self.engine.schema.open_features]
        if names:
            given = {name: [change.attributes.get(name) for change in changes] for name in names}
            view = vocabularies.learn(vocabularies.view(view), given)
            if view.schema.words != self.engine.schema.words:
                self.engine = Engine(view)

    @contextmanager
    def _writing(self) -> Iterator[psycopg.Connection]:
        """Open a transaction in which nobody else writes the view's table."""
        try:
            if not self._is_registered:
                self.offline.versions.register(self.engine.schema, self.entity)
                self._is_registered = True
            with self.offline.postgres.transaction() as connection:
                lock_table(connection, self.table)
                yield connection
        except StoreUnavailable:
            self._is_registered = False  # the version may have been dropped meanwhile
            raise

    def _derive(self, connection: psycopg.Connection, spans: Spans) -> tuple[StoredRows, int]:
        """Append the rows that follow from the changes in the spans, where others are stored.

        Returns
        -------
        newest, appended
            The newest row of each user, and how many rows were appended.
        """
        spans = change_rows.up_to_full_rows(connection, self.table, self.entity, spans)
        around = change_rows.rows_around(connection, self.table, self.engine, spans)
        changes = change_rows.logged_changes(connection, spans)
        rows = fold(self.engine, around.bases(spans), changes)
        keys = spans.keys[rows.places]
        matrix = FeatureMatrix(
            vectors(self.engine, rows), keys, rows.times, self.engine.schema, rows.exact
        )
        digests, known = around.newest_of(rows)
        made = tables.row_digests(matrix.values, tables.exact_packed(matrix))
        differs = digests != made
        # A clock that was set back must not let the older row win.
        fresh = np.maximum(clock(connection), known + MICROSECOND)
        created = np.where(differs, fresh, known)
        self._append(connection, matrix.rows(differs), created[differs])
        # Of a user without a full row behind the span the last of these rows is the newest.
        last = spans.are_open[rows.places] & (np.append(rows.places[1:], -1) != rows.places)
        newest = StoredRows(matrix.rows(last), created[last], made[last])
        others = spans.keys[~spans.are_open]
        if len(others):
            schema = self.engine.schema
            stored = newest_of(connection, self.table, self.entity, schema, others)
            newest = newest.with_rows(stored)
        return newest, int(differs.sum())

    def _append(
        self,
        connection: psycopg.Connection,
        matrix: FeatureMatrix,
        created: NDArray[np.datetime64],
    ) -> None:
        columns = tables.copy_columns(matrix, self.entity, created, from_changes=True)
        copy_into(connection, self.table, [columns])


def _refuse_the_future(changes: Sequence[ProfileChange], now: datetime) -> None:
    for change in changes:
        if change.time >= now:
            raise InvalidEvent(
                f"Change {change.event_id!r} of user {change.key} is of {change.time.isoformat()}"
                f", which has not passed at {now.isoformat()}. Hold it back until then."
            )


def _log(connection: psycopg.Connection, changes: Sequence[ProfileChange]) -> int:
    """Log the changes that are not logged yet; return how many."""
    insert = """
        INSERT INTO profile_changes
            (event_id, user_id, event_timestamp, attributes, created_timestamp)
        SELECT given->>0, (given->>1)::bigint, (given->>2)::timestamptz, given->3, clock_timestamp()
        FROM jsonb_array_elements(%s::jsonb) AS given
        ON CONFLICT (event_id) DO NOTHING"""
    given = [
        (change.event_id, change.key, change.time.isoformat(), dict(change.attributes))
        for change in changes
    ]
    packed = json.dumps(given)
    added = connection.execute(insert, (packed,)).rowcount
    if added < len(changes):
        _refuse_contradictions(connection, packed)
    return added


def _refuse_contradictions(connection: psycopg.Connection, given: str) -> None:
    """Refuse a change whose id is that of another one: neither may be lost without a word."""
    query = """
        SELECT event_id, user_id, event_timestamp
        FROM jsonb_array_elements(%s::jsonb) AS given JOIN profile_changes ON event_id = given->>0
        WHERE (user_id, event_timestamp, attributes)
            IS DISTINCT FROM ((given->>1)::bigint, (given->>2)::timestamptz, given->3) LIMIT 1"""
    known = connection.execute(query, (given,)).fetchone()
    if known is not None:
        raise InvalidEvent(
            f"event_id is '{known[0]}', which names another change already: of user {known[1]} at "
            f"{known[2].astimezone(UTC).isoformat()}. That one counts; give this one an id of its "
            "own."
        )


def _spans(connection: psycopg.Connection, changes: Sequence[ProfileChange], added: int) -> Spans:
    if added < len(changes):
        # What was logged before counts, and not what comes again under its id.
        return change_rows.logged_spans(connection, [change.event_id for change in changes])
    naive = [change.time.astimezone(UTC).replace(tzinfo=None) for change in changes]
    keys = np.array([change.key for change in changes], dtype=np.int64)
    return spans_over(keys, np.array(naive, dtype="datetime64[us]"))
