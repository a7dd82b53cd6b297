"""The months of the prediction log: made before they come, dropped when they are too old.

What no month was made for goes into ``predictions_default``, so nothing is ever refused; it moves
into its month when that is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg

from infrastructure.errors import ServiceError

AHEAD = 2
"""Months that are made before they come: a job that fails for weeks does no harm."""
TABLE = "predictions"
Connection = psycopg.Connection[Any]


@dataclass(frozen=True, order=True)
class Month:
    """A month in UTC.

    Examples
    --------
    >>> str(Month(2026, 11).plus(2))
    'predictions_2027_01'
    """

    year: int
    month: int

    @classmethod
    def of(cls, time: datetime) -> Month:
        """The month in which a time lies."""
        utc = time.astimezone(UTC)
        return cls(utc.year, utc.month)

    def plus(self, months: int) -> Month:
        """The month so many later; negative for earlier."""
        years, month = divmod(self.month - 1 + months, 12)
        return Month(self.year + years, month + 1)

    @property
    def start(self) -> datetime:
        """When it begins."""
        return datetime(self.year, self.month, 1, tzinfo=UTC)

    def __str__(self) -> str:
        return f"{TABLE}_{self.year:04}_{self.month:02}"


@dataclass(frozen=True)
class PartitionChanges:
    """What was made and dropped, by name."""

    made: tuple[str, ...]
    dropped: tuple[str, ...]


def maintain(connection: Connection, now: datetime, keep_months: int) -> PartitionChanges:
    """Make the months that are there or come soon, and drop those that are too old.

    Parameters
    ----------
    keep_months
        Whole months before the present one whose receipts are kept.

    Raises
    ------
    ServiceError
        If the table is not partitioned yet.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('fti partitions'))")
        _refuse_unpartitioned(connection)
        this = Month.of(now)
        oldest = this.plus(-keep_months)
        dropped = [month for month in _months(connection) if month < oldest]
        for month in dropped:
            connection.execute(f"DROP TABLE {month}")
        connection.execute(f"DELETE FROM {TABLE}_default WHERE predicted_at < %s", (oldest.start,))
        wanted = {this.plus(ahead) for ahead in range(AHEAD + 1)} | set(
            _months_of_default(connection)
        )
        made = sorted(wanted - set(_months(connection)))
        if made:  # a receipt that comes between moving and attaching would refuse the new month
            connection.execute(f"LOCK TABLE {TABLE}_default IN ACCESS EXCLUSIVE MODE")
        for month in made:
            _make(connection, month)
    return PartitionChanges(tuple(map(str, made)), tuple(map(str, dropped)))


def _make(connection: Connection, month: Month) -> None:
    """Make a partition, and move into it what lies in the default one."""
    start, end = month.start.isoformat(), month.plus(1).start.isoformat()
    connection.execute(f"CREATE TABLE {month} (LIKE {TABLE} INCLUDING DEFAULTS)")
    connection.execute(
        f"WITH moved AS (DELETE FROM {TABLE}_default WHERE predicted_at >= '{start}' "
        f"AND predicted_at < '{end}' RETURNING *) INSERT INTO {month} SELECT * FROM moved"
    )
    connection.execute(
        f"ALTER TABLE {TABLE} ATTACH PARTITION {month} FOR VALUES FROM ('{start}') TO ('{end}')"
    )


def _months(connection: Connection) -> Iterator[Month]:
    """The months that have a partition."""
    query = (
        "SELECT child.relname FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid "
        f"WHERE inhparent = to_regclass('{TABLE}') AND child.relname <> '{TABLE}_default'"
    )
    for (name,) in connection.execute(query).fetchall():
        year, month = name.removeprefix(f"{TABLE}_").split("_")
        yield Month(int(year), int(month))


def _months_of_default(connection: Connection) -> Iterator[Month]:
    """The months of what lies in the default partition."""
    query = f"SELECT DISTINCT date_trunc('month', predicted_at, 'UTC') FROM {TABLE}_default"
    for (time,) in connection.execute(query).fetchall():
        yield Month.of(time)


def _refuse_unpartitioned(connection: Connection) -> None:
    query = f"SELECT relkind FROM pg_class WHERE oid = to_regclass('{TABLE}')"
    row = connection.execute(query).fetchone()
    if row is None or row[0] not in ("p", b"p"):
        raise ServiceError(
            "The prediction log has no partitions. Bring the tables forward first: "
            "python -m infrastructure migrate"
        )
