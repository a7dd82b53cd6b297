"""The ``predictions`` table, and its rows in PostgreSQL's binary COPY format.

The format is that of https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format": every
value is its length and its bytes, numbers are big-endian.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from functools import lru_cache
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
import psycopg
from numpy.typing import NDArray

from feature_store.pgcopy import SIGNATURE, TRAILER
from feature_store.postgres import create, exists
from monitoring.prediction_record import Context, Flags, PredictionRecord

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
_NULL = b"\xff\xff\xff\xff"
_WHICH = struct.Struct(">hi16siq")
_WHOLE = struct.Struct(">iq")
_ANSWER = struct.Struct(">idih")


def create_predictions(connection: psycopg.Connection[Any]) -> None:
    """Make the tables unless they are there."""
    if not exists(connection, "shipped_segments"):
        create(connection, TABLES)


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
    same = _same_fields(record.context.packed)
    probability = record.probability
    return b"".join(
        (
            _WHICH.pack(len(COLUMNS), 16, record.prediction_id, 8, _time(record.predicted_at_us)),
            _NULL if record.user_id is None else _WHOLE.pack(8, record.user_id),
            _field(record.unit.encode()),
            same.arm,
            _ANSWER.pack(8, probability, 2, probability >= record.context.threshold),
            _scored_json(same, record.outputs),
            same.experiment,
            _flags(int(record.flags)),
            _NULL if record.event_time_us is None else _WHOLE.pack(8, _time(record.event_time_us)),
            same.fingerprint,
            _reals(record.vector),
        )
    )


class _SameFields(NamedTuple):
    """Fields that are the same for all predictions of one context."""

    arm: bytes
    experiment: bytes
    fingerprint: bytes
    scored: tuple[bytes, ...]


@lru_cache(maxsize=256)
def _same_fields(packed: bytes) -> _SameFields:
    context = Context.unpack(packed)
    answering = context.scored[context.answering]
    experiment = None if context.experiment is None else context.experiment.encode()
    scored = [json.dumps(vars(arm))[:-1] + ', "probability": ' for arm in context.scored]
    return _SameFields(
        arm=_field(context.arm.encode()) + _field(answering.model_version.encode()),
        experiment=_field(experiment)
        + _field(struct.pack(">d", context.propensity))
        + _field(struct.pack(">i", context.generation))
        + _field(context.engine.encode()),
        fingerprint=_field(context.fingerprint.encode()),
        scored=tuple(start.encode() for start in scored),
    )


def _scored_json(same: _SameFields, outputs: Sequence[float]) -> bytes:
    """Give a ``jsonb``, whose version is 1: what each arm answered."""
    arms = zip(same.scored, outputs, strict=True)
    return _field(
        b"\x01["
        + b", ".join([start + _json_number(output) + b"}" for start, output in arms])
        + b"]"
    )


def _json_number(value: float) -> bytes:
    return repr(value).encode() if isfinite(value) else b"null"


def _field(value: bytes | None) -> bytes:
    return _NULL if value is None else struct.pack(">i", len(value)) + value


def _time(microseconds: int) -> int:
    return microseconds - _EPOCH_US


def _reals(vector: NDArray[np.float32]) -> bytes:
    """Give a ``real[]``: dimensions, no nulls, element type, length, first index, elements."""
    start, elements = _no_reals(len(vector))
    elements = elements.copy()
    elements["value"] = vector
    return start + elements.tobytes()


@lru_cache(maxsize=256)
def _no_reals(p: int) -> tuple[bytes, NDArray[np.void]]:
    elements = np.zeros(p, dtype=[("size", ">i4"), ("value", ">f4")])
    elements["size"] = 4
    length = 20 + elements.nbytes
    return struct.pack(">iiiiii", length, 1, 0, _REAL, p, 1), elements


@lru_cache(maxsize=256)
def _flags(flags: int) -> bytes:
    """Give a ``text[]``; one without elements has no dimensions."""
    names = Flags(flags).names
    if not names:
        return _field(struct.pack(">iii", 0, 0, _TEXT))
    head = struct.pack(">iiiii", 1, 0, _TEXT, len(names), 1)
    return _field(head + b"".join([_field(name.encode()) for name in names]))
