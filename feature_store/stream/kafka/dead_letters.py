"""Dead letters of a topic: messages that could not be applied, in PostgreSQL beside the offsets."""

from __future__ import annotations

from typing import Any

from feature_store.errors import FeatureStoreError
from feature_store.offline.postgres import Postgres
from feature_store.stream.kafka.event_stream import KafkaEventStream, fields_of_message
from feature_store.stream.port import DeadLetter

AT_ONCE = 1_000
OURS = "WHERE (consumer_group, source) = (%(group)s, %(source)s)"
COLUMNS = "partition, message_offset, given_up_at, reason, tries, key, value"


class KafkaDeadLetters:
    """The dead letters of one group in one topic.

    Parameters
    ----------
    postgres
        Opens connections to the database that holds the offsets.
    group, source
        The group, and the topic by `TopicReader.source`.
    stream
        Where they are appended again.
    """

    def __init__(
        self, postgres: Postgres, group: str, source: str, stream: KafkaEventStream
    ) -> None:
        self.postgres = postgres
        self.stream = stream
        self._names = {"group": group, "source": source}

    def count(self) -> int:
        """How many there are."""
        [row] = self._rows(f"SELECT count(*) FROM stream_dead_letters {OURS}")
        return int(row[0])

    def newest(self, most: int) -> list[DeadLetter]:
        """The newest ones, the newest first."""
        query = (
            f"SELECT {COLUMNS} FROM stream_dead_letters {OURS} "
            "ORDER BY given_up_at DESC, partition, message_offset DESC LIMIT %(most)s"
        )
        return [_letter(*row) for row in self._rows(query, most=most)]

    def replay(self, letter_id: str) -> int:
        """Append one to the topic again, or ``all``, as it was; return how many.

        It is taken from the dead letters afterwards: killed in between, it is in the topic twice
        and counts once.

        Raises
        ------
        FeatureStoreError
            If there is no such dead letter.
        """
        if letter_id != "all":
            replayed = self._replay(self._found(letter_id))
            if not replayed:
                raise FeatureStoreError(
                    f"There is no dead letter '{letter_id}'. See them: "
                    "python -m feature_store dead-letters"
                )
            return replayed
        [(now,)], replayed = self._rows("SELECT clock_timestamp()"), 0
        oldest = (
            f"SELECT {COLUMNS} FROM stream_dead_letters {OURS} AND given_up_at <= %(now)s "
            f"ORDER BY given_up_at LIMIT {AT_ONCE}"
        )
        # Not those that come back meanwhile: they would go round.
        while found := self._rows(oldest, now=now):
            replayed += self._replay(found)
        return replayed

    def _found(self, letter_id: str) -> list[Any]:
        partition, _, offset = letter_id.partition("-")
        if not (partition.isdigit() and offset.isdigit()):
            return []
        query = (
            f"SELECT {COLUMNS} FROM stream_dead_letters {OURS} "
            "AND (partition, message_offset) = (%(partition)s, %(offset)s)"
        )
        return self._rows(query, partition=int(partition), offset=int(offset))

    def _replay(self, found: list[Any]) -> int:
        if not found:
            return 0
        self.stream.send((key, value) for *_, key, value in found)
        partitions, offsets = [row[0] for row in found], [row[1] for row in found]
        named = {**self._names, "partitions": partitions, "offsets": offsets}
        with self.postgres.transaction() as connection:
            connection.execute(
                f"DELETE FROM stream_dead_letters {OURS} AND (partition, message_offset) IN "
                "(SELECT * FROM unnest(%(partitions)s::int[], %(offsets)s::bigint[]))",
                named,
            )
        return len(found)

    def _rows(self, query: str, **given: Any) -> list[Any]:
        with self.postgres.transaction() as connection:
            return connection.execute(query, self._names | given).fetchall()


def _letter(
    partition: int,
    offset: int,
    given_up_at: Any,
    reason: str,
    tries: int,
    key: bytes | None,
    value: bytes | None,
) -> DeadLetter:
    fields, _ = fields_of_message(value)
    return DeadLetter(f"{partition}-{offset}", given_up_at, reason, tries, fields)
