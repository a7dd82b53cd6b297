"""The ``predictions`` table, and its rows in PostgreSQL's binary COPY format.

The format is that of https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format": every
value is its length and its bytes, numbers are big-endian.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
import psycopg

from feature_store.offline.binary_copy import SIGNATURE, TRAILER
from infrastructure.pace import Pace
from monitoring.log.record import Context, Flags, PredictionRecord, parts_of

COLUMNS = (
    *("prediction_id", "predicted_at", "user_id", "unit", "arm", "model_version", "probability"),
    *("decision", "scored", "experiment", "propensity", "generation", "engine", "flags"),
    *("feature_event_time", "schema_fingerprint", "caller", "features"),
)
PIECE_ROWS = 32
"""About a third of a millisecond of work."""
COPY = f"COPY predictions ({', '.join(COLUMNS)}) FROM STDIN (FORMAT BINARY)"

_EPOCH_US = 946_684_800_000_000  # PostgreSQL counts from 2000-01-01
_TEXT, _REAL = 25, 700  # object ids of the element types
_NULL = b"\xff\xff\xff\xff"
_WHICH = struct.Struct(">hi16siq")
_LENGTH = struct.Struct(">i")
_WHOLE = struct.Struct(">iq")
_ANSWER = struct.Struct(">idih")


class ReceiptRow(NamedTuple):
    """A receipt on its way into the table.

    Parameters
    ----------
    body
        The record's.
    fields
        Its row as far as before the features.
    vector
        The features, little-endian float32.
    """

    body: bytes
    fields: bytes
    vector: bytes


def copy_predictions(
    connection: psycopg.Connection[Any], records: Iterable[PredictionRecord]
) -> None:
    """Copy receipts into the table."""
    copy_rows(connection, [row_of(record.pack()) for record in records])


def copy_rows(
    connection: psycopg.Connection[Any], rows: Sequence[ReceiptRow], pace: Pace | None = None
) -> None:
    """Copy the rows of receipts into the table, with a rest after each piece if a pace is given."""
    with connection.cursor() as cursor, cursor.copy(COPY) as copy:
        copy.write(SIGNATURE)
        for start in range(0, len(rows), PIECE_ROWS):
            copy.write(_pack(rows[start : start + PIECE_ROWS]))
            if pace is not None:
                pace.rest()
        copy.write(TRAILER)


def _pack(rows: Sequence[ReceiptRow]) -> bytes:
    features = _reals([row.vector for row in rows])
    parts = zip((row.fields for row in rows), features, strict=True)
    return b"".join(chain.from_iterable(parts))


def row_of(body: bytes) -> ReceiptRow:
    """Make the row of a receipt.

    Raises
    ------
    RecordCorrupt
        If the body is not that of a record.
    """
    parts = parts_of(body)
    context, same = parts.context, _same_fields(parts.context.packed)
    probability = parts.outputs[context.answering]
    user_id, event_time_us = parts.user_id, parts.event_time_us
    fields = (
        _WHICH.pack(len(COLUMNS), 16, parts.prediction_id, 8, _time(parts.predicted_at_us)),
        _NULL if user_id is None else _WHOLE.pack(8, user_id),
        _LENGTH.pack(len(parts.unit)),
        parts.unit,
        same.arm,
        _ANSWER.pack(8, probability, 2, probability >= context.threshold),
        _scored_json(same, parts.outputs),
        same.experiment,
        _flags(parts.flags),
        _NULL if event_time_us is None else _WHOLE.pack(8, _time(event_time_us)),
        same.fingerprint,
    )
    return ReceiptRow(body, b"".join(fields), parts.vector)


class _SameFields(NamedTuple):
    """Fields that are the same for all predictions of one context."""

    arm: bytes
    experiment: bytes
    fingerprint: bytes
    scored: tuple[str, ...]


@lru_cache(maxsize=256)
def _same_fields(packed: bytes) -> _SameFields:
    context = Context.unpack(packed)
    answering = context.scored[context.answering]
    experiment = None if context.experiment is None else context.experiment.encode()
    scored = [json.dumps(arm.known)[:-1] + ', "probability": ' for arm in context.scored]
    return _SameFields(
        arm=_field(context.arm.encode()) + _field(answering.model_version.encode()),
        experiment=_field(experiment)
        + _field(struct.pack(">d", context.propensity))
        + _field(struct.pack(">i", context.generation))
        + _field(context.engine.encode()),
        fingerprint=_field(context.fingerprint.encode())
        + _field(None if context.caller is None else context.caller.encode()),
        scored=tuple(scored),
    )


def _scored_json(same: _SameFields, outputs: Sequence[float]) -> bytes:
    """Give a ``jsonb``, whose version is 1: what each arm answered."""
    arms = zip(same.scored, outputs, strict=True)
    found = ", ".join([f"{start}{_json_number(output)}}}" for start, output in arms])
    return _field(f"\x01[{found}]".encode())


def _json_number(value: float) -> str:
    return repr(value) if isfinite(value) else "null"


def _field(value: bytes | None) -> bytes:
    return _NULL if value is None else _LENGTH.pack(len(value)) + value


def _time(microseconds: int) -> int:
    return microseconds - _EPOCH_US


def _reals(vectors: Sequence[bytes]) -> list[bytes]:
    """Give each vector as a ``real[]``; those of one length are converted together."""
    found = [b""] * len(vectors)
    lengths = [len(vector) // 4 for vector in vectors]
    for p in set(lengths):
        places = [place for place, length in enumerate(lengths) if length == p]
        elements = np.empty((len(places), p), dtype=[("size", ">i4"), ("value", ">f4")])
        elements["size"] = 4
        packed = b"".join([vectors[place] for place in places])
        elements["value"] = np.frombuffer(packed, "<f4").reshape(-1, p)
        size, packed = 8 * p, elements.tobytes()
        # Dimensions, no nulls, element type, length, first index, and then the elements.
        head = struct.pack(">iiiiii", 20 + size, 1, 0, _REAL, p, 1)
        for number, place in enumerate(places):
            found[place] = head + packed[number * size : (number + 1) * size]
    return found


@lru_cache(maxsize=256)
def _flags(flags: int) -> bytes:
    """Give a ``text[]``; one without elements has no dimensions."""
    names = Flags(flags).names
    if not names:
        return _field(struct.pack(">iii", 0, 0, _TEXT))
    head = struct.pack(">iiiii", 1, 0, _TEXT, len(names), 1)
    return _field(head + b"".join([_field(name.encode()) for name in names]))
