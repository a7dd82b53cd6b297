"""Reported labels on their last step, into the table ``labels``: it only ever grows.

The same label again changes nothing. Another label for the same prediction, or for the same user
and time, is a correction: a later row, which counts from then on. What was reported before the
label that is stored already, but arrives after it, comes too late and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg

from feature_store.offline import tables
from feature_store.offline.postgres import create, has_column, lock_table
from feature_store.online.row_codec import EPOCH
from monitoring.log.label_record import Key, LabelRecord

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


def create_labels(connection: Connection) -> None:
    """Make the table, or give one from before labels were reported what it lacks."""
    create(connection, tables.LABELS)
    if not has_column(connection, "labels", "received_at"):
        connection.execute("ALTER TABLE labels ADD COLUMN IF NOT EXISTS received_at timestamptz")
    connection.execute(tables.LABELS_BY_PREDICTION)


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
        "label_time": [EPOCH + timedelta(microseconds=label.label_time_us) for label in labels],
        "received_at": [EPOCH + timedelta(microseconds=label.received_at_us) for label in labels],
    }
