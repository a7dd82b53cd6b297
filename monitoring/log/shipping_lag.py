"""How long receipts have been waiting in segment files for their way to PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from feature_store.offline.postgres import exists
from monitoring.errors import RecordCorrupt
from monitoring.log.label_record import KIND_LABEL, LabelRecord
from monitoring.log.record import PredictionRecord
from monitoring.log.segments import SUFFIX, Record, read_records

LOOK_BYTES = 64 * 1024
"""The first record that waits lies within so much."""


def shipping_lag_s(
    folder: Path, connect: Callable[[], psycopg.Connection[Any]], now: datetime
) -> float:
    """Age of the oldest record that PostgreSQL does not have, in seconds; 0 when it has all.

    Parameters
    ----------
    folder
        The prediction log's on this host.
    """
    segments = sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
    if not segments:
        return 0.0
    with connect() as connection:
        shipped: dict[str, int] = {}
        if exists(connection, "shipped_segments"):
            query = "SELECT segment, shipped_bytes FROM shipped_segments WHERE segment = ANY (%s)"
            shipped = dict(
                connection.execute(query, ([path.name for path in segments],)).fetchall()
            )
    times = [_first_waiting_us(path, shipped.get(path.name, 0)) for path in segments]
    waiting = [time_us for time_us in times if time_us is not None]
    return max(now.timestamp() - min(waiting) / 1e6, 0.0) if waiting else 0.0


def _first_waiting_us(path: Path, start: int) -> int | None:
    """Time of the first record behind ``start``; None when there is none."""
    try:
        with path.open("rb") as segment:
            data = os.pread(segment.fileno(), LOOK_BYTES, start)
    except FileNotFoundError:  # shipped and removed meanwhile
        return None
    records = read_records(data, start)
    try:
        return _time_us(records[0]) if records else None
    except RecordCorrupt:  # set aside by who ships it, with an alert
        return None


def _time_us(record: Record) -> int:
    if record.kind == KIND_LABEL:
        return LabelRecord.unpack(record.body).received_at_us
    return PredictionRecord.unpack(record.body).predicted_at_us
