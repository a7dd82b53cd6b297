"""Events of users in PostgreSQL: the table ``user_events``, written once each, read into arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.entity import LARGEST_KEY
from feature_store.definitions.window_plan import ActivityPlan
from feature_store.definitions.window_totals import Events
from feature_store.errors import InvalidEvent
from feature_store.offline.binary_copy import POSTGRES_EPOCH

if TYPE_CHECKING:
    import psycopg

LARGEST_CENTS = 10**12
"""So many fit into a total 9 million times before it overflows."""
LONGEST_TEXT = 200
"""In characters: what PostgreSQL indexes has a limit."""

TABLE = "user_events"

# An event is stored once, whatever is delivered again; the first of two with one id stands.
INSERT = f"""
INSERT INTO {TABLE} (event_id, user_id, event_timestamp, event_type, amount_cents,
                     created_timestamp)
SELECT *, %s FROM unnest(%b::text[], %b::bigint[], %b::timestamptz[], %b::text[], %b::bigint[])
ON CONFLICT (event_id) DO NOTHING"""

# Neither of two events with one id may be lost without a word.
CONTRADICTED = f"""
SELECT event_id, {TABLE}.user_id, {TABLE}.event_timestamp
FROM unnest(%b::text[], %b::bigint[], %b::timestamptz[], %b::text[], %b::bigint[])
    AS given (event_id, user_id, event_timestamp, event_type, amount_cents)
JOIN {TABLE} USING (event_id)
WHERE ({TABLE}.user_id, {TABLE}.event_timestamp, {TABLE}.event_type, {TABLE}.amount_cents)
    IS DISTINCT FROM
    (given.user_id, given.event_timestamp, given.event_type, given.amount_cents) LIMIT 1"""

# One writer at a time, and each at a later time than all before, even after the server's clock was
# set back: of two rows with the same newest event the online store keeps the one created later.
TAKE_TURN = f"""
INSERT INTO {TABLE}_clock (last_time) VALUES (clock_timestamp()) ON CONFLICT (single) DO UPDATE
SET last_time = greatest(clock_timestamp(), {TABLE}_clock.last_time + interval '1 microsecond')
RETURNING last_time"""

_ARRAY_HEADER_BYTES = 20
_EPOCH_US = int(POSTGRES_EPOCH.astype(np.int64))


@dataclass(frozen=True)
class ActivityEvent:
    """Something that a user did.

    Parameters
    ----------
    event_id
        Names the event: delivered again, it is the same one.
    key
        The user.
    time
        When it happened; aware.
    event_type
        For example ``view`` or ``purchase``.
    amount_cents
        Its amount in hundredths, if it has one; less than 0 for money that goes back.
    key_fields
        The columns of the user's key as texts, where it is no whole number.

    Raises
    ------
    InvalidEvent
        If it cannot be stored; the message says why.
    """

    event_id: str
    key: int
    time: datetime
    event_type: str
    amount_cents: int | None
    key_fields: Mapping[str, str] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        texts = (self.event_id, self.event_type)
        if not all(0 < len(text) <= LONGEST_TEXT and "\0" not in text for text in texts):
            self._refuse(f"its id and its type must be texts of 1 to {LONGEST_TEXT} characters")
        if not -LARGEST_KEY <= self.key <= LARGEST_KEY:
            self._refuse("its user is no 64-bit number")
        if self.time.tzinfo is None:
            self._refuse("its time has no zone")
        if abs(self.amount_cents or 0) > LARGEST_CENTS:
            self._refuse(f"its amount is beyond {LARGEST_CENTS:,} cents")

    def _refuse(self, why: str) -> None:
        raise InvalidEvent(f"Event {self.event_id!r} of user {self.key} cannot be stored: {why}.")


def take_turn(connection: psycopg.Connection) -> datetime:
    """Wait for other writers of events, then say what time it is; the turn ends with the commit."""
    row = connection.execute(TAKE_TURN).fetchone()
    assert row is not None
    now: datetime = row[0]
    return now


def insert(
    connection: psycopg.Connection, events: Sequence[ActivityEvent], created: datetime
) -> int:
    """Store the events that are not stored yet; return how many they were.

    Raises
    ------
    InvalidEvent
        If the id of one is that of an event that says something else.
    """
    columns = (
        [event.event_id for event in events],
        [event.key for event in events],
        [event.time for event in events],
        [event.event_type for event in events],
        [event.amount_cents for event in events],
    )
    added = connection.execute(INSERT, (created, *columns)).rowcount
    known = connection.execute(CONTRADICTED, columns).fetchone() if added < len(events) else None
    if known is not None:
        raise InvalidEvent(
            f"event_id is '{known[0]}', which names another event already: of user {known[1]} at "
            f"{known[2].astimezone(UTC).isoformat()}. That one counts; give this one an id of its "
            "own."
        )
    return added


def read(connection: psycopg.Connection, plan: ActivityPlan, rows: str) -> Events:
    """Events as arrays, by user and time.

    Parameters
    ----------
    rows
        SQL of the table or subquery; its events are called ``event``.
    """
    types = ", ".join("'" + each.replace("'", "''") + "'" for each in plan.event_types)
    # One row of arrays: a row an event would be a message an event.
    query = (
        "SELECT array_agg(event.user_id), array_agg(event.event_timestamp), "
        f"array_agg(coalesce(array_position(ARRAY[{types}]::text[], event.event_type), 0)), "
        "array_agg(coalesce(event.amount_cents, 0)), array_agg(event.amount_cents IS NOT NULL), "
        f"array_agg(event.created_timestamp) FROM {rows}"
    )
    result = connection.execute(query, binary=True).pgresult
    assert result is not None
    keys, times, types_, cents, has_amount, created = (
        _array(result.get_value(0, place), dtype)
        for place, dtype in enumerate((">i8", ">i8", ">i4", ">i8", "?", ">i8"))
    )
    events = Events(
        keys, times + _EPOCH_US, types_.astype(np.int16), cents, has_amount, created + _EPOCH_US
    )
    return events.in_order()


def newest_of(keys: NDArray[np.int64], plan: ActivityPlan) -> str:
    """SQL of the events of some users that their online rows are made of, for FROM."""
    newest = f"(SELECT max(event_timestamp) FROM {TABLE} WHERE user_id = asked.user_id)"
    return _each(keys, [f"event_timestamp >= {newest} - interval '{plan.reach_us} microseconds'"])


def of_users(keys: NDArray[np.int64], where: Sequence[str] = ()) -> str:
    """SQL of the events of some users, for FROM."""
    return _each(keys, where)


def _each(keys: NDArray[np.int64], where: Sequence[str]) -> str:
    """The events of some users, user by user.

    OFFSET keeps the planner from reading all events instead: it knows nothing of a table that was
    filled a moment ago.
    """
    kept = " AND ".join(["user_id = asked.user_id", *where])
    return (
        f"{_asked(keys)} CROSS JOIN LATERAL (SELECT * FROM {TABLE} WHERE {kept} OFFSET 0) AS event"
    )


def _asked(keys: NDArray[np.int64]) -> str:
    return f"unnest('{{{','.join(map(str, keys.tolist()))}}}'::bigint[]) AS asked (user_id)"


def _array(sent: bytes | None, dtype: str) -> NDArray[Any]:
    """An array as PostgreSQL sends it: a header, then each value after its size in bytes."""
    if sent is None:
        return np.empty(0, dtype=np.dtype(dtype).newbyteorder("="))
    values = np.frombuffer(sent, [("size", ">i4"), ("value", dtype)], offset=_ARRAY_HEADER_BYTES)
    return values["value"].astype(np.dtype(dtype).newbyteorder("="))
