"""Windowed values as of any time, straight from the events in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.schema import FeatureSchema
from feature_store.definitions.window_plan import ActivityPlan
from feature_store.definitions.window_totals import sums_of_events
from feature_store.offline import events as stored
from feature_store.offline.postgres import Postgres

if TYPE_CHECKING:
    import polars as pl

USERS_AT_ONCE = 2_000
"""Users whose events are in memory together."""
ROWS_AT_ONCE = 100_000
"""Asked rows of those users that are answered together."""
INSTANT = np.timedelta64(1, "us")


class ActivityStore:
    """Values of windowed views; any definition can be read, since the events are the truth.

    Parameters
    ----------
    postgres
        Opens connections to the database.
    """

    def __init__(self, postgres: Postgres) -> None:
        self.postgres = postgres

    def historical(
        self,
        schema: FeatureSchema,
        keys: NDArray[np.int64],
        times: NDArray[np.datetime64],
        *,
        known: bool = False,
        known_by: datetime | None = None,
    ) -> tuple[FeatureMatrix, NDArray[np.bool_]]:
        """Features of users as of given times: rows out are rows in, in order.

        Memory is that of the events of 2,000 users, however many rows are asked for.

        Parameters
        ----------
        keys, times
            int64 and datetime64[us] ``(n,)``; an absent time (NaT) finds nothing.
        known
            Only events that the store had learned by the asked time of the row.
        known_by
            Only events that the store had learned by then.

        Returns
        -------
        FeatureMatrix, found
            All missing where the newest event is older than the TTL, or there is none; and a mask
            ``(n,)`` of the others.
        """
        times = times.astype("datetime64[us]")
        values = np.full((len(keys), len(schema)), np.nan, dtype=np.float32)
        found = np.zeros(len(keys), dtype=bool)
        plan, asked = ActivityPlan(schema), np.flatnonzero(~np.isnat(times))
        order = asked[np.argsort(keys[asked], kind="stable")]
        where = [] if known_by is None else [f"created_timestamp <= '{known_by.isoformat()}'"]
        with self.postgres.transaction() as connection:
            for rows in _blocks(keys, order):
                when = times[rows]
                users = np.unique(keys[rows])
                span = [*where, *_between(when.min() - np.timedelta64(plan.reach), when.max())]
                events = stored.read(connection, plan, stored.of_users(users, span))
                for start in range(0, len(rows), ROWS_AT_ONCE):
                    part = rows[start : start + ROWS_AT_ONCE]
                    sums, found[part] = sums_of_events(
                        plan, events, keys[part], times[part].view(np.int64), known=known
                    )
                    values[part] = plan.values(sums)
        values[~found] = np.nan
        return FeatureMatrix(values, keys, times, schema), found

    def after_events(
        self, schema: FeatureSchema, start: datetime | None, end: datetime | None, *, newest: bool
    ) -> tuple[FeatureMatrix, NDArray[np.datetime64]]:
        """Values of every user just after each event in ``[start, end)``, by user and time.

        Parameters
        ----------
        newest
            Only after the newest event of each user in that range.

        Returns
        -------
        FeatureMatrix, created
            ``times`` are those of the events; and when the store learned each (datetime64[us]).
        """
        rows = self.postgres.query(_event_times(start, end, newest=newest))
        keys, times = rows["user_id"].to_numpy(), _naive(rows["event_timestamp"])
        matrix, _ = self.historical(schema, keys, times + INSTANT)
        return FeatureMatrix(matrix.values, keys, times, schema), _naive(rows["created_timestamp"])

    def history(self, schema: FeatureSchema, key: int) -> tuple[pl.DataFrame, FeatureMatrix]:
        """Every event of a user as it is stored, the oldest first, and the values after each."""
        events = self.postgres.query(
            f"SELECT * FROM {stored.TABLE} WHERE user_id = {key} "
            "ORDER BY event_timestamp, created_timestamp, event_id"
        )
        times = _naive(events["event_timestamp"])
        keys = np.full(len(events), key, dtype=np.int64)
        return events, self.historical(schema, keys, times + INSTANT)[0]

    def users(self) -> Iterator[NDArray[np.int64]]:
        """Every user that has events, in order, some thousands at a time."""
        query = f"SELECT DISTINCT user_id FROM {stored.TABLE} ORDER BY user_id"
        for frame in self.postgres.stream(query):
            keys = frame["user_id"].to_numpy()
            for start in range(0, len(keys), USERS_AT_ONCE):
                yield keys[start : start + USERS_AT_ONCE]


def _blocks(keys: NDArray[np.int64], order: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    """Places of the asked rows of `USERS_AT_ONCE` users, given all places in the order of keys."""
    of_key = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], of_key[1:] != of_key[:-1]]))[::USERS_AT_ONCE]
    edges = [*starts.tolist(), len(order)] if len(order) else []
    for start, end in pairwise(edges):
        yield order[start:end]


def _between(start: np.datetime64, end: np.datetime64) -> Sequence[str]:
    return [f"event_timestamp >= '{start}+00'", f"event_timestamp < '{end}+00'"]


def _event_times(start: datetime | None, end: datetime | None, *, newest: bool) -> str:
    where = [f"event_timestamp >= '{start.isoformat()}'"] if start else []
    where += [f"event_timestamp < '{end.isoformat()}'"] if end else []
    kept = f"WHERE {' AND '.join(where)}" if where else ""
    by, order = ("user_id", "DESC") if newest else ("user_id, event_timestamp", "")
    return (
        f"SELECT DISTINCT ON ({by}) user_id, event_timestamp, created_timestamp "
        f"FROM {stored.TABLE} {kept} "
        f"ORDER BY user_id, event_timestamp {order}, created_timestamp DESC"
    )


def _naive(column: pl.Series) -> NDArray[np.datetime64]:
    return column.dt.replace_time_zone(None).to_numpy().astype("datetime64[us]")
