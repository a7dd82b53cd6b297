"""Labels that were reported: their form on disk, their table, and the labels of users.

The table ``labels`` only ever grows. The same label again changes nothing. Another label for the
same prediction, or for the same user and time, is a correction: a later row, which counts from
then on. A label that was reported before the stored one, but arrives after it, is left out.

A label of higher authority counts before all others of the same event, whenever they came: what a
source says before what a caller reported. Each row keeps who said it.

Labels of predictions become labels of users, from which models are trained: a label about a
prediction tells what was true of its user at its time. Predictions from attributes of a request
are left out: their label does not belong to what is stored about the user.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import psycopg

from feature_store.offline.postgres import lock_table
from feature_store.online.row_codec import moment_of
from monitoring.errors import RecordCorrupt
from monitoring.log.reader import REQUEST_ATTRIBUTES
from monitoring.log.record import packed_user, user_of

KIND_LABEL = b"LBL2"
"""Kind of a label's record; another layout gets another number."""
KIND_LABEL_ONCE = b"LBL1"
"""The layout before, without authority and caller: such records may still wait on a disk."""
REPORTED, OF_A_SOURCE = 0, 1
"""Authorities."""

_LAYOUT = struct.Struct("<16sqbqq")
_AUTHORITY = struct.Struct("<b")
_NO_PREDICTION = bytes(16)

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
    authority
        Of two labels for the same the one of the higher authority counts.
    caller
        Name of the key that reported it; None where no keys are asked for.
    """

    prediction_id: bytes | None
    user_id: int | None
    label: int
    label_time_us: int
    received_at_us: int
    authority: int = REPORTED
    caller: str | None = None

    @property
    def key(self) -> Key:
        """What the label is about."""
        return self.prediction_id or (self.user_id, self.label_time_us)

    def pack(self) -> bytes:
        """Give the body of the record; `unpack` reads it back."""
        fixed = _LAYOUT.pack(
            self.prediction_id or _NO_PREDICTION,
            packed_user(self.user_id),
            self.label,
            self.label_time_us,
            self.received_at_us,
        )
        return fixed + _AUTHORITY.pack(self.authority) + (self.caller or "").encode()

    @classmethod
    def unpack(cls, body: bytes, kind: bytes = KIND_LABEL) -> LabelRecord:
        """Read a record's body.

        Raises
        ------
        RecordCorrupt
            If it is too short, or what follows is no name.
        """
        authority, caller, fixed = REPORTED, "", body
        try:
            if kind == KIND_LABEL:
                fixed = body[: _LAYOUT.size]
                [authority] = _AUTHORITY.unpack_from(body, _LAYOUT.size)
                caller = body[_LAYOUT.size + _AUTHORITY.size :].decode()
            prediction_id, user_id, label, label_time_us, received_at_us = _LAYOUT.unpack(fixed)
        except (struct.error, UnicodeDecodeError) as error:
            raise RecordCorrupt(
                f"A label record of {len(body)} bytes cannot be read: {error}."
            ) from error
        return cls(
            None if prediction_id == _NO_PREDICTION else prediction_id,
            user_of(user_id),
            label,
            label_time_us,
            received_at_us,
            authority,
            caller or None,
        )


Connection = psycopg.Connection[Any]

_INSERT = """
INSERT INTO labels (user_id, prediction_id, label, label_time, received_at, authority, caller,
                    created_timestamp)
SELECT given.*, %(created)s
FROM unnest(%(user_id)s::bigint[], %(prediction_id)s::uuid[], %(label)s::smallint[],
            %(label_time)s::timestamptz[], %(received_at)s::timestamptz[],
            %(authority)s::smallint[], %(caller)s::text[])
    AS given (user_id, prediction_id, label, label_time, received_at, authority, caller)
LEFT JOIN LATERAL (
    SELECT label, received_at FROM labels WHERE labels.authority = given.authority AND {same}
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
    last: dict[tuple[Key, int], int] = {}
    turns: dict[tuple[Key, int], int] = {}
    batches: list[list[LabelRecord]] = []
    for label in labels:
        event = label.key, label.authority
        if last.get(event) == label.label:
            continue
        last[event] = label.label
        turn = turns[event] = turns.get(event, -1) + 1
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
        "authority": [label.authority for label in labels],
        "caller": [label.caller for label in labels],
    }


_ADOPT = f"""
INSERT INTO labels
    (user_id, label, label_time, received_at, authority, caller, created_timestamp)
SELECT found.user_id, found.label, found.predicted_at, found.received_at, found.authority,
    found.caller, clock_timestamp()
FROM (
    SELECT DISTINCT ON (p.user_id, p.predicted_at)
        p.user_id, p.predicted_at, l.label, l.received_at, l.authority, l.caller
    FROM labels l JOIN predictions p USING (prediction_id)
    WHERE p.user_id IS NOT NULL AND NOT {REQUEST_ATTRIBUTES}
    ORDER BY p.user_id, p.predicted_at, l.authority DESC, l.created_timestamp DESC
) AS found
LEFT JOIN LATERAL (
    SELECT label FROM labels WHERE labels.prediction_id IS NULL
        AND labels.user_id = found.user_id AND labels.label_time = found.predicted_at
        AND labels.authority = found.authority
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


_LIST = """
SELECT user_id, prediction_id::text, label, label_time,
    CASE WHEN authority = 0 OR received_at IS NOT NULL THEN coalesce(caller, 'anybody')
        ELSE 'source' END AS said_by,
    coalesce(received_at, created_timestamp) AS said_at,
    row_number() OVER (
        PARTITION BY prediction_id, CASE WHEN prediction_id IS NULL THEN user_id END,
            CASE WHEN prediction_id IS NULL THEN label_time END
        ORDER BY authority DESC, created_timestamp DESC) = 1 AS counts
FROM labels
WHERE (%(user)s::bigint IS NULL OR user_id = %(user)s)
    AND (%(prediction)s::uuid IS NULL OR prediction_id = %(prediction)s)
"""


class SaidLabel(NamedTuple):
    """A label, who said it, and whether it is the one of its event that counts."""

    user_id: int | None
    prediction_id: str | None
    label: int
    label_time: datetime
    said_by: str
    said_at: datetime
    counts: bool


def said_labels(
    connection: Connection,
    *,
    user: int | None = None,
    prediction: UUID | None = None,
    caller: str | None = None,
    most: int,
) -> list[SaidLabel]:
    """List the newest labels, of a user, of a prediction or by a caller if one is given.

    Who says so is the name of a key, ``anybody`` where no keys are asked for, or ``source``.
    """
    rows = connection.execute(
        f"SELECT * FROM ({_LIST}) AS said WHERE %(caller)s::text IS NULL OR said_by = %(caller)s "
        "ORDER BY said_at DESC LIMIT %(most)s",
        {"user": user, "prediction": prediction, "caller": caller, "most": most},
    ).fetchall()
    return [SaidLabel(*row) for row in rows]
