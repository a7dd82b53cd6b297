"""What the stores hold around some changes, read by index: no query looks at a whole table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.engine import Engine
from feature_store.offline.binary_copy import (
    FOREVER,
    copy_layout,
    read_rows,
    reals_of,
    times_of,
)
from feature_store.offline.exact_rows import ExactLayout, naive_times
from feature_store.offline.tables import as_real
from feature_store.profiles.fold import Changes, RawRows, is_last_of_each, newest_stored
from feature_store.profiles.spans import (
    ASKED,
    LONG_AGO,
    Spans,
    all_of,
    spans_over,
)

if TYPE_CHECKING:
    import psycopg

AROUND = {
    "event_timestamp": "timestamptz",
    "created_timestamp": "timestamptz",
    "from_changes": "boolean",
    "row_digest": "uuid",
}
"""What is read of a row before its raw columns."""


@dataclass(frozen=True)
class RowsAround:
    """Rows of the view's table in and before some spans.

    Parameters
    ----------
    rows
        Users (by place in the spans), event times and raw columns.
    created
        datetime64[us] ``(n,)``: when the store learned each row.
    are_full
        bool ``(n,)``: whether the row came whole from a source, or follows from changes.
    digests
        void16 ``(n,)`` of all features.
    """

    rows: RawRows
    created: NDArray[np.datetime64]
    are_full: NDArray[np.bool_]
    digests: NDArray[np.void]

    def bases(self, spans: Spans) -> RawRows:
        """The rows that changes are laid on: those before the spans, the full ones in them."""
        before = self.rows.times < spans.since[self.rows.places]
        # Full rows sort behind the others, so that the last of a time is the newest full one.
        order = np.lexsort((self.created, self.are_full, self.rows.times, self.rows.places))
        is_last = is_last_of_each(self.rows.places[order], self.rows.times[order])
        return self.rows.rows(order[(before | self.are_full)[order] & is_last])

    def newest_of(self, rows: RawRows) -> tuple[NDArray[np.void], NDArray[np.datetime64]]:
        """Digest and created time ``(n,)`` of the newest stored row of the same user and time.

        Where there is none, a digest that no row has and `LONG_AGO`.
        """
        found = newest_stored(rows, self.rows, self.created)
        digests = np.append(self.digests, np.zeros(1, "V16"))[found]
        return digests, np.append(self.created, LONG_AGO)[found]


def logged_spans(connection: psycopg.Connection, event_ids: Sequence[str]) -> Spans:
    """From the first to the last of these logged changes, for each user that they are about."""
    query = (
        "SELECT user_id, min(event_timestamp) AS since, max(event_timestamp) AS until "
        "FROM profile_changes WHERE event_id = ANY(%(ids)s) GROUP BY user_id"
    )
    layout = copy_layout({"user_id": "bigint", "since": "timestamptz", "until": "timestamptz"})
    found = read_rows(connection, query, layout, {"ids": list(event_ids)})
    since, until = times_of(found["since"]), times_of(found["until"])
    return Spans(found["user_id"].astype(np.int64), since, until)


def up_to_full_rows(connection: psycopg.Connection, table: str, entity: str, spans: Spans) -> Spans:
    """The spans, each up to the first full row behind it: from there on changes show no more."""
    query = f"""
        SELECT asked_place, event_timestamp FROM {ASKED} CROSS JOIN LATERAL (
            SELECT event_timestamp FROM {table}
            WHERE {entity} = asked.key AND event_timestamp > asked.until AND NOT from_changes
            ORDER BY event_timestamp LIMIT 1) AS found"""
    layout = copy_layout({"asked_place": "bigint", "event_timestamp": "timestamptz"})
    found = read_rows(connection, query, layout, spans.parameters)
    until = np.full(len(spans), FOREVER)
    until[found["asked_place"].astype(np.int64)] = times_of(found["event_timestamp"])
    return Spans(spans.keys, spans.since, until)


def rows_around(
    connection: psycopg.Connection, table: str, engine: Engine, spans: Spans
) -> RowsAround:
    """All rows in the spans, and for each user the newest one before."""
    query = _rows_around(table, engine)
    if engine.schema.exact:
        return _exact_rows_around(connection, query, engine, spans)
    fixed = copy_layout({"asked_place": "bigint", **AROUND}, len(engine.raw))
    found = read_rows(connection, query, fixed, spans.parameters)
    times, places = times_of(found["event_timestamp"]), found["asked_place"].astype(np.int64)
    return RowsAround(
        RawRows(places, times, reals_of(found)),
        times_of(found["created_timestamp"]),
        ~found["from_changes"],
        found["row_digest"].copy(),
    )


def _exact_rows_around(
    connection: psycopg.Connection, query: str, engine: Engine, spans: Spans
) -> RowsAround:
    layout = ExactLayout(1 + len(AROUND), engine.raw, engine.schema.exact)
    rows = layout.read(connection, query, spans.parameters)
    places, times, created, from_changes, digests = rows.fixed
    return RowsAround(
        RawRows(np.array(places, np.int64), naive_times(times), rows.values, rows.exact),
        naive_times(created),
        ~np.array(from_changes, dtype=bool),
        np.frombuffer(b"".join(digest.bytes for digest in digests), "V16"),
    )


def _rows_around(table: str, engine: Engine) -> str:
    """SQL of place, fixed columns, raw columns as numbers and exact columns of the rows."""
    entity, exact = engine.view.entity, [column.name for column in engine.schema.exact]
    names = ", ".join(dict.fromkeys([*(feature.name for feature in engine.raw), *exact]))
    read = ", ".join([*map(as_real, engine.raw), *exact])
    rows = (
        f"SELECT {', '.join(AROUND)}, {names} "
        f"FROM {table} WHERE {entity} = asked.key AND event_timestamp"
    )
    return f"""
        SELECT asked_place, {", ".join(AROUND)}, {read}
        FROM {ASKED} CROSS JOIN LATERAL (
            ({rows} < asked.since ORDER BY event_timestamp DESC, created_timestamp DESC LIMIT 1)
            UNION ALL {rows} >= asked.since AND event_timestamp < asked.until) AS found"""


def logged_changes(connection: psycopg.Connection, spans: Spans) -> Changes:
    """All logged changes in the spans."""
    query = f"""
        SELECT asked_place, event_timestamp AT TIME ZONE 'UTC', event_id, attributes
        FROM {ASKED} JOIN profile_changes
        ON user_id = key AND event_timestamp >= since AND event_timestamp < until"""
    rows = connection.execute(query, spans.parameters).fetchall()
    places, times, event_ids, attributes = zip(*rows, strict=True) if rows else ((),) * 4
    return Changes(
        np.array(places, dtype=np.int64),
        np.array(times, dtype="datetime64[us]"),
        event_ids,
        attributes,
    )


def changed_spans(
    connection: psycopg.Connection,
    keys: NDArray[np.int64] | None,
    times: NDArray[np.datetime64] | None,
) -> Spans:
    """From the first to the last of these times, for each user with changes since the first.

    Parameters
    ----------
    keys, times
        Users and times ``(n,)``, in any order; None stands for all users or all times.
    """
    if keys is None:
        query = "SELECT DISTINCT user_id FROM profile_changes"
        found = read_rows(connection, query, copy_layout({"user_id": "bigint"}))
        return all_of(found["user_id"].astype(np.int64))
    spans = all_of(np.unique(keys)) if times is None else spans_over(keys, times)
    query = f"""
        SELECT asked_place FROM {ASKED} WHERE EXISTS (
            SELECT FROM profile_changes WHERE user_id = key AND event_timestamp >= since)"""
    found = read_rows(connection, query, copy_layout({"asked_place": "bigint"}), spans.parameters)
    return spans.part(np.sort(found["asked_place"].astype(np.int64)))
