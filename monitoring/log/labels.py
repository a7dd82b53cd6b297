"""Labels that were reported: their form on disk, their table, and the labels of users.

The table ``labels`` only ever grows. The same label again changes nothing. Another label for the
same prediction, or for the same user and time, is a correction: a later row, which counts from
then on. A label that was reported before the stored one, but arrives after it, is left out.

Labels of predictions become labels of users, from which models are trained: a label about a
prediction tells what was true of its user at its time. Predictions from attributes of a request
are left out: their label does not belong to what is stored about the user.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg

from feature_store.offline.postgres import lock_table
from feature_store.online.row_codec import moment_of
from monitoring.errors import RecordCorrupt
from monitoring.log.reader import REQUEST_ATTRIBUTES

KIND_LABEL = b"LBL1"
"""Kind of a label's record; another layout gets another number."""

_LAYOUT = struct.Struct("<16sqbqq")
_NO_PREDICTION = bytes(16)
_NO_USER = 0  # keys start at 1

Key = bytes | tuple[int | None, int]


@dataclass(frozen=True)
class LabelRecord:
    """What came true: of a prediction, or of a user at a time.

    Parameters
    ----------
    prediction_id
        UUIDv7, 16 bytes; None when a user is named.
    user_id
        None when a prediction is named: its receipt knows the user.
    label
        0 or 1.
    label_time_us
        The time of which the label tells, in microseconds since 1970 in UTC.
    received_at_us
        When it was reported, likewise: of two labels for the same the later one counts.
    """

    prediction_id: bytes | None
    user_id: int | None
    label: int
    label_time_us: int
    received_at_us: int

    @property
    def key(self) -> Key:
        """What the label is about."""
        return self.prediction_id or (self.user_id, self.label_time_us)

    def pack(self) -> bytes:
        """Give the body of the record; `unpack` reads it back."""
        return _LAYOUT.pack(
            self.prediction_id or _NO_PREDICTION,
            self.user_id or _NO_USER,
            self.label,
            self.label_time_us,
            self.received_at_us,
        )

    @classmethod
    def unpack(cls, body: bytes) -> LabelRecord:
        """Read a record's body.

        Raises
        ------
        RecordCorrupt
            If it has another length.
        """
        try:
            prediction_id, user_id, label, label_time_us, received_at_us = _LAYOUT.unpack(body)
        except struct.error as error:
            raise RecordCorrupt(
                f"A label record of {len(body)} bytes cannot be read: {error}."
            ) from error
        return cls(
            None if prediction_id == _NO_PREDICTION else prediction_id,
            None if user_id == _NO_USER else user_id,
            label,
            label_time_us,
            received_at_us,
        )


Connection = psycopg.Connection[Any]

_INSERT = """
INSERT INTO labels (user_id, prediction_id, label, label_time, received_at, created_timestamp)
SELECT given.*, %(created)s
FROM unnest(%(user_id)s::bigint[], %(prediction_id)s::uuid[], %(label)s::smallint[],
            %(label_time)s::timestamptz[], %(received_at)s::timestamptz[])
    AS given (user_id, prediction_id, label, label_time, received_at)
LEFT JOIN LATERAL (
    SELECT label, received_at FROM labels WHERE {same}
    ORDER BY created_timestamp DESC LIMIT 1
) AS newest ON true
WHERE newest.label IS NULL
    OR (newest.label <> given.label
        AND coalesce(newest.received_at, '-infinity') <= given.received_at)
"""
_OF_PREDICTIONS = _INSERT.format(same="labels.prediction_id = given.prediction_id")
_OF_USERS = _INSERT.format(
    same=(
        "labels.prediction_id IS NULL AND labels.user_id = given.user_id "
        "AND labels.label_time = given.label_time"
    )
)


def insert_labels(connection: Connection, labels: Sequence[LabelRecord]) -> None:
    """Add what is new; call it inside of a transaction."""
    lock_table(connection, "labels")
    [created] = connection.execute("SELECT clock_timestamp()").fetchone() or [None]
    for rank, batch in enumerate(_in_turns(labels)):
        later = created + timedelta(microseconds=rank)
        of_predictions = [label for label in batch if label.prediction_id is not None]
        of_users = [label for label in batch if label.prediction_id is None]
        for statement, some in ((_OF_PREDICTIONS, of_predictions), (_OF_USERS, of_users)):
            if some:
                connection.execute(statement, _columns(some) | {"created": later})


def _in_turns(labels: Sequence[LabelRecord]) -> list[list[LabelRecord]]:
    """Divide labels so that none of a turn is about the same; corrections come in later turns."""
    last: dict[Key, int] = {}
    turns: dict[Key, int] = {}
    batches: list[list[LabelRecord]] = []
    for label in labels:
        if last.get(label.key) == label.label:
            continue
        last[label.key] = label.label
        turn = turns[label.key] = turns.get(label.key, -1) + 1
        if turn == len(batches):
            batches.append([])
        batches[turn].append(label)
    return batches


def _columns(labels: Sequence[LabelRecord]) -> dict[str, list[Any]]:
    return {
        "user_id": [label.user_id for label in labels],
        "prediction_id": [
            None if label.prediction_id is None else UUID(bytes=label.prediction_id)
            for label in labels
        ],
        "label": [label.label for label in labels],
        "label_time": [moment_of(label.label_time_us) for label in labels],
        "received_at": [moment_of(label.received_at_us) for label in labels],
    }


_ADOPT = f"""
INSERT INTO labels (user_id, label, label_time, received_at, created_timestamp)
SELECT found.user_id, found.label, found.predicted_at, found.received_at, clock_timestamp()
FROM (
    SELECT DISTINCT ON (p.user_id, p.predicted_at) p.user_id, p.predicted_at, l.label, l.received_at
    FROM labels l JOIN predictions p USING (prediction_id)
    WHERE p.user_id IS NOT NULL AND NOT {REQUEST_ATTRIBUTES}
    ORDER BY p.user_id, p.predicted_at, l.created_timestamp DESC
) AS found
LEFT JOIN LATERAL (
    SELECT label FROM labels WHERE labels.prediction_id IS NULL
        AND labels.user_id = found.user_id AND labels.label_time = found.predicted_at
    ORDER BY created_timestamp DESC LIMIT 1
) AS known ON true
WHERE known.label IS DISTINCT FROM found.label
"""


def adopt_labels(connection: psycopg.Connection[Any]) -> int:
    """Add labels of users that follow from labels of predictions; give how many were new.

    Doing it again adds nothing; a correction of a prediction's label corrects the user's.
    """
    with connection.transaction():
        connection.execute("SET LOCAL statement_timeout = 0")  # it looks at the whole log
        lock_table(connection, "labels")
        return connection.execute(_ADOPT).rowcount
