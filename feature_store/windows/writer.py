"""Writes events into PostgreSQL and, made from what is stored there, online rows into Redis.

Events come as often and in any order as they like: an event counts once, and a row is a function
of the stored events. The rows of every stored version of the view are kept up, so a reader of an
older definition sees new events too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.entity import LARGEST_KEY
from feature_store.definitions.schema import FeatureSchema
from feature_store.definitions.window_plan import ActivityPlan
from feature_store.errors import InvalidEvent
from feature_store.offline import events as stored
from feature_store.offline.entity_keys import note_keys_of
from feature_store.offline.events import ActivityEvent
from feature_store.offline.postgres import Postgres
from feature_store.offline.versions import VersionCatalogue
from feature_store.online.windowed_row_codec import ActivityRows
from feature_store.online_store import OnlineStore, translated

if TYPE_CHECKING:
    import psycopg

ENTITY = "user_id"
USERS_AT_ONCE = 2_000
"""Users whose rows are made together; other writers wait meanwhile."""


class ActivityWriter:
    """Stores events and keeps the online rows that follow from them.

    Parameters
    ----------
    postgres
        Opens connections to the database.
    online
        The online rows of a windowed view, as this code defines it.
    """

    def __init__(self, postgres: Postgres, online: OnlineStore) -> None:
        self.postgres = postgres
        self.online = online
        self.versions = VersionCatalogue(postgres)
        self._is_registered = False
        self._stores = {online.schema.fingerprint: online}

    def apply(self, events: Sequence[ActivityEvent], now: datetime) -> int:
        """Store events, each once, and write the rows of their users; return how many were new.

        The rows of users whose events were known are written too: whoever stored them may have
        been killed before it wrote the rows.

        Raises
        ------
        InvalidEvent
            If the time of one has not passed at ``now``, or its id is that of an event that says
            something else; nothing has been stored then.
        StoreUnavailable
            If PostgreSQL or Redis does not answer. Apply the events again: what is stored stays.
        """
        if not events:
            return 0
        _refuse_the_future(events, now)
        self._register()
        keys = np.unique(np.array([event.key for event in events], dtype=np.int64))
        with self.postgres.transaction() as connection:
            created = stored.take_turn(connection)
            note_keys_of(connection, self.online.schema.key, events)
            added = stored.insert(connection, events, created)
            made = self._make_rows(connection, keys)
        # After the commit, or Redis could know what PostgreSQL forgot; a slow writer cannot undo
        # a later one's row, which was created later.
        for store, rows in made:
            store.write(rows, created)
        return added

    def rebuild(
        self,
        start: datetime | None = None,
        end: datetime | None = None,
        advance: Callable[[int], object] = lambda users: None,
    ) -> int:
        """Write the online rows of users with an event in ``[start, end)`` anew, from all events.

        The same rows, to the byte, that `apply` wrote; only their created time is later. Goes from
        block to block of users, so memory is bounded and other writers wait for one block at most.

        Parameters
        ----------
        start, end
            All users when None.
        advance
            Told after each block how many users it had.

        Returns
        -------
        How many users there were.
        """
        users, schema = 0, self.online.schema
        self.versions.register(schema, ENTITY)
        with translated("write"):
            self.online.versions.register(is_filling=True)
        for keys in self._users(start, end):
            with self.postgres.transaction() as connection:
                created = stored.take_turn(connection)
                rows = online_rows(connection, keys, schema)
            self.online.write(rows, created)
            users += len(keys)
            advance(len(keys))
        if self.versions.find(schema.view, schema.fingerprint).switched_at is not None:
            with translated("write"):
                self.online.versions.switch()  # a Redis that was lost does not know it
        return users

    def count_users(self, start: datetime | None = None, end: datetime | None = None) -> int:
        """How many users have an event in ``[start, end)``: those that `rebuild` would write."""
        self._register()
        query = (
            f"SELECT count(DISTINCT user_id) FROM {stored.TABLE} "
            "WHERE event_timestamp >= %(start)s AND event_timestamp < %(end)s"
        )
        with self.postgres.transaction() as connection:
            row = connection.execute(query, _range(start, end)).fetchone()
        return int(row[0]) if row else 0

    def _users(self, start: datetime | None, end: datetime | None) -> Iterator[NDArray[np.int64]]:
        query = (
            f"SELECT DISTINCT user_id FROM {stored.TABLE} WHERE user_id > %(after)s "
            "AND event_timestamp >= %(start)s AND event_timestamp < %(end)s "
            f"ORDER BY user_id LIMIT {USERS_AT_ONCE}"
        )
        after = -LARGEST_KEY - 1
        while True:
            with self.postgres.transaction() as connection:
                found = connection.execute(query, {"after": after} | _range(start, end)).fetchall()
            if not found:
                return
            yield np.array(found, dtype=np.int64)[:, 0]
            after = found[-1][0]

    def _make_rows(
        self, connection: psycopg.Connection, keys: NDArray[np.int64]
    ) -> list[tuple[OnlineStore, ActivityRows]]:
        return [
            (store, online_rows(connection, keys, store.schema)) for store in self._all(connection)
        ]

    def _all(self, connection: psycopg.Connection) -> list[OnlineStore]:
        """The online rows of every stored version."""
        query = "SELECT fingerprint, definition FROM feature_views WHERE view = %s"
        view = self.online.schema.view
        for fingerprint, definition in connection.execute(query, (view,)).fetchall():
            if fingerprint not in self._stores:
                schema = FeatureSchema.from_meaning(view, definition)
                self._stores[fingerprint] = self.online.of(schema, self.online.ttl)
        return list(self._stores.values())

    def _register(self) -> None:
        if not self._is_registered:
            self.versions.register(self.online.schema, ENTITY)
            with translated("write"):
                self.online.versions.register()
            self._is_registered = True


def online_rows(
    connection: psycopg.Connection, keys: NDArray[np.int64], schema: FeatureSchema
) -> ActivityRows:
    """The online rows of some users: the one way in which they are made."""
    plan = ActivityPlan(schema)
    return ActivityRows.of(plan, stored.read(connection, plan, stored.newest_of(keys, plan)))


def _refuse_the_future(events: Sequence[ActivityEvent], now: datetime) -> None:
    for event in events:
        if event.time >= now:
            raise InvalidEvent(
                f"Event {event.event_id!r} of user {event.key} happens at {event.time.isoformat()}"
                f", which has not passed at {now.isoformat()}. Hold it back until then."
            )


def _range(start: datetime | None, end: datetime | None) -> dict[str, object]:
    return {"start": start or "-infinity", "end": end or "infinity"}
