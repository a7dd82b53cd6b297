"""The ``predictions`` table, and its rows in PostgreSQL's binary COPY format.

The format is that of https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format": every
value is its length and its bytes, numbers are big-endian.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from feature_store.pgcopy import SIGNATURE, TRAILER
from monitoring.prediction_record import PredictionRecord

TABLES = """
CREATE TABLE IF NOT EXISTS predictions (
    prediction_id uuid NOT NULL,
    predicted_at timestamptz NOT NULL,
    user_id bigint,
    unit text NOT NULL,
    arm text NOT NULL,
    model_version text NOT NULL,
    probability double precision NOT NULL,
    decision smallint NOT NULL,
    scored jsonb NOT NULL,
    experiment text,
    propensity double precision NOT NULL,
    generation integer NOT NULL,
    engine text NOT NULL,
    flags text[] NOT NULL,
    feature_event_time timestamptz,
    schema_fingerprint text NOT NULL,
    features real[] NOT NULL,
    PRIMARY KEY (prediction_id, predicted_at)
);
CREATE INDEX IF NOT EXISTS predictions_by_time ON predictions (predicted_at);
CREATE INDEX IF NOT EXISTS predictions_by_user ON predictions (user_id, predicted_at);
CREATE TABLE IF NOT EXISTS shipped_segments (
    segment text PRIMARY KEY,
    shipped_bytes bigint NOT NULL,
    shipped_at timestamptz NOT NULL DEFAULT now()
)
"""
COLUMNS = (
    *(
        "prediction_id",
        "predicted_at",
        "user_id",
        "unit",
        "arm",
        "model_version",
        "probability",
    ),
    *(
        "decision",
        "scored",
        "experiment",
        "propensity",
        "generation",
        "engine",
        "flags",
    ),
    *("feature_event_time", "schema_fingerprint", "features"),
)
COPY = f"COPY predictions ({', '.join(COLUMNS)}) FROM STDIN (FORMAT BINARY)"

_EPOCH_US = 946_684_800_000_000  # PostgreSQL counts from 2000-01-01
_TEXT, _REAL = 25, 700  # object ids of the element types


def copy_predictions(
    connection: psycopg.Connection[Any], records: Sequence[PredictionRecord]
) -> None:
    """Copy receipts into the table."""
    with connection.cursor() as cursor, cursor.copy(COPY) as copy:
        copy.write(copy_bytes(records))


def copy_bytes(records: Sequence[PredictionRecord]) -> bytes:
    """Give the bytes of a binary COPY of these records."""
    return b"".join([SIGNATURE, *map(_row, records), TRAILER])


def _row(record: PredictionRecord) -> bytes:
    context = record.context
    answering = context.scored[context.answering]
    values = (
        record.prediction_id,
        _time(record.predicted_at_us),
        _optional(">q", record.user_id),
        record.unit.encode(),
        context.arm.encode(),
        answering.model_version.encode(),
        struct.pack(">d", record.probability),
        struct.pack(">h", record.decision),
        b"\x01" + _scored_json(record),  # jsonb: version 1
        None if context.experiment is None else context.experiment.encode(),
        struct.pack(">d", context.propensity),
        struct.pack(">i", context.generation),
        context.engine.encode(),
        _texts(record.flags.names),
        None if record.event_time_us is None else _time(record.event_time_us),
        context.fingerprint.encode(),
        _reals(record.vector),
    )
    return struct.pack(">h", len(values)) + b"".join([_field(value) for value in values])


def _scored_json(record: PredictionRecord) -> bytes:
    scored = [
        vars(arm) | {"probability": output}
        for arm, output in zip(record.context.scored, record.outputs, strict=True)
    ]
    return json.dumps(scored).encode()


def _field(value: bytes | None) -> bytes:
    return b"\xff\xff\xff\xff" if value is None else struct.pack(">i", len(value)) + value


def _optional(layout: str, value: int | None) -> bytes | None:
    return None if value is None else struct.pack(layout, value)


def _time(microseconds: int) -> bytes:
    return struct.pack(">q", microseconds - _EPOCH_US)


def _reals(vector: NDArray[np.float32]) -> bytes:
    """Give a ``real[]``: dimensions, no nulls, element type, length, first index, elements."""
    elements = np.empty(len(vector), dtype=[("size", ">i4"), ("value", ">f4")])
    elements["size"] = 4
    elements["value"] = vector
    return struct.pack(">iiiii", 1, 0, _REAL, len(vector), 1) + elements.tobytes()


def _texts(words: Sequence[str]) -> bytes:
    """Give a ``text[]``; one without elements has no dimensions."""
    if not words:
        return struct.pack(">iii", 0, 0, _TEXT)
    head = struct.pack(">iiiii", 1, 0, _TEXT, len(words), 1)
    return head + b"".join([_field(word.encode()) for word in words])
