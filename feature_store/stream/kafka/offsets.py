"""The table of offsets in PostgreSQL: who reads a partition, and what is done of it.

Only who took a partition last moves its offset. A consumer that was thought dead and is not cannot
undo what its follower did: what it settles then counts for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from feature_store.offline.postgres import Postgres
from feature_store.stream.port import Refused

if TYPE_CHECKING:
    import psycopg

# A reader that did not hand its partition back has died: what it may have had in hand is suspect,
# until all of that is done. How often readers died of it tells how carefully it is tried.
TAKE_OVER = """
INSERT INTO stream_offsets AS known
    (consumer_group, source, partition, next_offset, owner, starts, began_at)
SELECT %(group)s, %(source)s, partition, low, %(owner)s, 1, low
FROM unnest(%(partitions)s::int[], %(lows)s::bigint[]) AS given (partition, low)
ON CONFLICT (consumer_group, source, partition) DO UPDATE
SET owner = excluded.owner,
    changed_at = clock_timestamp(),
    starts = CASE WHEN known.owner IS NULL THEN 1
        WHEN known.next_offset >= known.began_at + %(rows)s THEN 2 ELSE known.starts + 1 END,
    began_at = CASE WHEN known.owner IS NULL OR known.next_offset >= known.began_at + %(rows)s
        THEN known.next_offset ELSE known.began_at END
RETURNING partition, next_offset, starts, began_at
"""
HAND_BACK = """
UPDATE stream_offsets SET owner = NULL, starts = 0, changed_at = clock_timestamp()
WHERE (consumer_group, source) = (%(group)s, %(source)s) AND owner = %(owner)s
    AND partition = ANY(%(partitions)s::int[])
"""
ADVANCE = """
UPDATE stream_offsets AS known SET next_offset = greatest(known.next_offset, given.next_offset),
    changed_at = clock_timestamp()
FROM unnest(%(partitions)s::int[], %(offsets)s::bigint[]) AS given (partition, next_offset)
WHERE (consumer_group, source) = (%(group)s, %(source)s) AND owner = %(owner)s
    AND known.partition = given.partition
RETURNING known.partition
"""
BURY = """
INSERT INTO stream_dead_letters
    (consumer_group, source, partition, message_offset, reason, tries, given_up_at, key, value)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (consumer_group, source, partition, message_offset) DO UPDATE
SET (reason, tries, given_up_at) = (excluded.reason, excluded.tries, excluded.given_up_at)
"""
THIN_OUT = """
DELETE FROM stream_dead_letters WHERE (consumer_group, source) = (%(group)s, %(source)s)
    AND given_up_at < (SELECT given_up_at FROM stream_dead_letters
        WHERE (consumer_group, source) = (%(group)s, %(source)s)
        ORDER BY given_up_at DESC OFFSET %(most)s LIMIT 1)
"""
BEGIN_TRY = """
INSERT INTO stream_tries AS known (consumer_group, source, partition, message_offset, tries)
VALUES (%s, %s, %s, %s, 1) ON CONFLICT (consumer_group, source, partition, message_offset)
DO UPDATE SET tries = known.tries + 1 RETURNING tries
"""
FORGET_TRIES = """
DELETE FROM stream_tries WHERE (consumer_group, source) = (%(group)s, %(source)s)
    AND (partition, message_offset)
        IN (SELECT * FROM unnest(%(partitions)s::int[], %(offsets)s::bigint[]))
"""
ALL = """
SELECT partition, next_offset, owner, changed_at FROM stream_offsets
WHERE (consumer_group, source) = (%(group)s, %(source)s)
"""

Place = tuple[int, int]
"""Partition and offset of a message."""


@dataclass(frozen=True)
class Message:
    """A message as it came, for the dead letters."""

    place: Place
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True)
class Beginning:
    """From where a partition is to be read.

    Parameters
    ----------
    next_offset
        The first message that is not done.
    deaths
        How many readers in a row died of what begins here.
    suspect_to
        Before this offset lies what they may have had in hand.
    """

    next_offset: int
    deaths: int
    suspect_to: int


@dataclass(frozen=True)
class StoredOffset:
    """How far a partition is done, and who reads it."""

    next_offset: int
    owner: str | None
    changed_at: datetime


class OffsetTable:
    """The offsets of one group in one topic, for one consumer.

    Parameters
    ----------
    postgres
        Opens connections to the database that holds the effects.
    group, source
        The group, and the topic by `TopicReader.source`.
    owner
        The consumer.
    max_dead_letters
        So many are kept, about; the oldest go first.
    rows
        A reader has so many messages of a partition in hand at most.
    """

    def __init__(
        self,
        postgres: Postgres,
        group: str,
        source: str,
        owner: str,
        max_dead_letters: int,
        rows: int,
    ) -> None:
        self.postgres = postgres
        self.owner = owner
        self.max_dead_letters = max_dead_letters
        self.rows = rows
        self._names = {"group": group, "source": source, "owner": owner}

    def take_over(self, lows: Mapping[int, int]) -> dict[int, Beginning]:
        """Become the reader of partitions.

        Parameters
        ----------
        lows
            Partition to the first offset that it still has; where nothing is stored, it begins
            there.
        """
        given = {"partitions": list(lows), "lows": list(lows.values()), "rows": self.rows}
        with self.postgres.transaction() as connection:
            rows = connection.execute(TAKE_OVER, self._names | given).fetchall()
        return {
            partition: Beginning(offset, starts - 1, began_at + self.rows)
            for partition, offset, starts, began_at in rows
        }

    def hand_back(self, partitions: Sequence[int]) -> None:
        """Be the reader of partitions no longer, in order: nothing of them is suspect."""
        with self.postgres.transaction() as connection:
            connection.execute(HAND_BACK, self._names | {"partitions": list(partitions)})

    def settle(
        self,
        offsets: Mapping[int, int],
        refused: Sequence[tuple[Message, Refused]],
        tried: Sequence[Place],
        now: datetime,
    ) -> set[int]:
        """Move offsets and keep dead letters, at once; return the partitions that are still ours.

        Parameters
        ----------
        offsets
            Partition to the first message that is not done.
        tried
            Messages that were tried alone and are done.
        """
        given = {"partitions": list(offsets), "offsets": list(offsets.values())}
        with self.postgres.transaction() as connection:
            rows = connection.execute(ADVANCE, self._names | given).fetchall()
            ours = {partition for (partition,) in rows}
            self._bury(connection, [each for each in refused if each[0].place[0] in ours], now)
            if tried:
                partitions, places = zip(*tried, strict=True)
                named = {"partitions": list(partitions), "offsets": list(places)}
                connection.execute(FORGET_TRIES, self._names | named)
        return ours

    def begin_try(self, place: Place) -> int:
        """Note that a message is tried alone, and say for which time."""
        names = (self._names["group"], self._names["source"])
        with self.postgres.transaction() as connection:
            row = connection.execute(BEGIN_TRY, (*names, *place)).fetchone()
        assert row is not None
        return int(row[0])

    def all(self) -> dict[int, StoredOffset]:
        """What is known of each partition."""
        with self.postgres.transaction() as connection:
            rows = connection.execute(ALL, self._names).fetchall()
        return {partition: StoredOffset(*known) for partition, *known in rows}

    def _bury(
        self,
        connection: psycopg.Connection,
        refused: Sequence[tuple[Message, Refused]],
        now: datetime,
    ) -> None:
        if not refused:
            return
        names = (self._names["group"], self._names["source"])
        rows = [
            (*names, *message.place, each.reason, each.tries, now, message.key, message.value)
            for message, each in refused
        ]
        with connection.cursor() as cursor:
            cursor.executemany(BURY, rows)
        connection.execute(THIN_OUT, self._names | {"most": self.max_dead_letters})
