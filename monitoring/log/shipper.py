"""Carries receipts and labels from segment files to PostgreSQL, each exactly once.

One transaction copies rows and advances ``shipped_segments``, so that whatever dies in between,
the next attempt begins where the last committed one ended. A segment whose writer is gone is
removed once all of it has been committed.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from feature_store.offline.postgres import translated
from infrastructure.pace import Pace, ease
from monitoring.errors import RecordCorrupt
from monitoring.log.labels import KIND_LABEL, KIND_LABEL_ONCE, LabelRecord, insert_labels
from monitoring.log.record import KIND_PREDICTION, PredictionRecord
from monitoring.log.segments import (
    HEADER_BYTES,
    MAX_BODY_BYTES,
    SUFFIX,
    SegmentRecord,
    next_sound_record,
    read_records,
)
from monitoring.log.table import PIECE_ROWS, ReceiptRow, copy_rows, row_of

logger = logging.getLogger(__name__)

CHUNK_BYTES = 256 * 1024
"""Some eight hundred receipts: enough for a transaction, few objects for the garbage collector."""
LABEL_KINDS = (KIND_LABEL, KIND_LABEL_ONCE)
KINDS = (KIND_PREDICTION, *LABEL_KINDS)

Connection = psycopg.Connection[Any]
R = TypeVar("R", ReceiptRow, LabelRecord)


class PredictionShipper:
    """Ships all segments of a folder, those of living writers and those left behind.

    Parameters
    ----------
    folder
        The prediction log's.
    connect
        Opens a connection to PostgreSQL; one is kept open and replaced when it breaks.
    rest_share
        Rest between pieces of work, as a multiple of the processor time that they took; less while
        more comes than is shipped.
    """

    def __init__(
        self, folder: Path, connect: Callable[[], Connection], rest_share: float = 0.0
    ) -> None:
        self.folder = folder
        self.quarantine = folder / "quarantine"
        self.connect = connect
        self.rest_share = rest_share
        self._one_at_a_time = threading.Lock()  # a last call at the end may meet one under way
        self._connection: Connection | None = None
        self._shipped: dict[str, int] = {}
        self._began_s = time.monotonic()

    def run_once(self) -> int:
        """Ship what there is; return how many receipts and labels were committed.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL cannot be reached or goes away; what was committed stays so.
        OSError
            If a segment cannot be read or removed.
        """
        with self._one_at_a_time, translated():
            self._began_s = time.monotonic()
            return sum(self._ship_segment(path) for path in sorted(self.folder.glob(f"*{SUFFIX}")))

    def spool_bytes(self) -> int:
        """Bytes that segments occupy on the disk, reserved space included."""
        total = 0
        for path in self.folder.glob(f"*{SUFFIX}"):
            with suppress(FileNotFoundError):  # shipped and removed meanwhile
                total += path.stat().st_size
        return total

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ship_segment(self, path: Path) -> int:
        with _open_segment(path) as (segment, is_finished):
            if segment is None:
                return 0
            shipped = 0
            while chunk := self._next_chunk(path, segment, is_finished):
                shipped += self._commit(path.name, chunk)
                if not is_finished and _is_small(chunk):
                    return shipped  # what came meanwhile goes together with what comes next
            if is_finished:
                path.unlink()
                self._shipped.pop(path.name, None)
            return shipped

    def _next_chunk(self, path: Path, segment: int, is_finished: bool) -> list[SegmentRecord]:
        """Read the sound records that come next; none at the end of what can be read now."""
        start = self._shipped.get(path.name)
        if start is None:
            start = self._shipped[path.name] = self._committed_bytes(path.name)
        if not is_finished and not any(os.pread(segment, HEADER_BYTES, start)):
            return []
        data = os.pread(segment, CHUNK_BYTES, start)
        records = read_records(data, start)
        if not records:  # there may be one that is longer
            data = os.pread(segment, CHUNK_BYTES + MAX_BODY_BYTES, start)
            records = read_records(data, start)
        if records or not is_finished or not data:
            return records
        # Nobody writes here any more, so what is no record will never be one.
        rest = data + os.pread(segment, os.fstat(segment).st_size, start + len(data))
        sound = next_sound_record(rest, 0, KINDS)
        if sound is not None:
            self._set_aside(path.name, start, rest[:sound], "is damaged")
            return read_records(rest, start, sound)
        if torn := rest.rstrip(b"\0"):
            # A record that was never acknowledged, unless its last bytes were damaged: keep them.
            self._set_aside(path.name, start, torn, "ends in half a record", logging.WARNING)
        return []

    def _commit(self, segment: str, records: Sequence[SegmentRecord]) -> int:
        """Copy records and advance the mark in one transaction; return how many were copied."""
        pace = Pace(ease(self.rest_share, time.monotonic() - self._began_s))
        found = list(self._unpack(segment, records, pace))
        predictions = [each for each in found if isinstance(each, ReceiptRow)]
        labels = [each for each in found if isinstance(each, LabelRecord)]
        connection = self._connect()
        with connection.transaction():
            marked = _mark(connection, segment)
            if marked != self._shipped[segment]:
                self._shipped[segment] = marked  # another shipper was quicker: read again
                return 0
            copied = self._store(connection, segment, predictions, partial(copy_rows, pace=pace))
            copied += self._store(connection, segment, labels, insert_labels)
            connection.execute(
                "UPDATE shipped_segments SET shipped_bytes = %s, shipped_at = now() "
                "WHERE segment = %s",
                (records[-1].end, segment),
            )
        self._shipped[segment] = records[-1].end
        return copied

    def _store(
        self,
        connection: Connection,
        segment: str,
        records: Sequence[R],
        insert: Callable[[Connection, Sequence[R]], None],
    ) -> int:
        """Insert what PostgreSQL accepts, and set aside single records that it never will."""
        if not records:
            return 0
        try:
            with connection.transaction():
                insert(connection, records)
            return len(records)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            if len(records) == 1:
                [record] = records
                body = record.body if isinstance(record, ReceiptRow) else record.pack()
                name = hashlib.blake2b(body, digest_size=8).hexdigest()
                self._set_aside(segment, name, body, f"was refused: {error}")
                return 0
            half = len(records) // 2
            parts = records[:half], records[half:]
            return sum(self._store(connection, segment, part, insert) for part in parts)

    def _unpack(
        self, segment: str, records: Sequence[SegmentRecord], pace: Pace
    ) -> Iterator[ReceiptRow | LabelRecord]:
        for number, record in enumerate(records, start=1):
            if number % PIECE_ROWS == 0:
                pace.rest()
            try:
                if record.kind in LABEL_KINDS:
                    yield LabelRecord.unpack(record.body, record.kind)
                elif record.kind == KIND_PREDICTION:
                    yield row_of(record.body)
                else:
                    raise RecordCorrupt(f"kind {record.kind!r} is not known")
            except RecordCorrupt as error:
                self._set_aside(segment, record.offset, record.body, str(error))

    def _set_aside(
        self, segment: str, where: object, data: bytes, reason: str, level: int = logging.ERROR
    ) -> None:
        """Keep bytes that cannot be shipped, and log it: a person must look at them."""
        self.quarantine.mkdir(parents=True, exist_ok=True)
        path = self.quarantine / f"{segment}.{where}"
        path.write_bytes(data)
        logger.log(level, "prediction log: %s at %s %s; kept as %s", segment, where, reason, path)

    def _committed_bytes(self, segment: str) -> int:
        connection = self._connect()
        with connection.transaction():
            return _mark(connection, segment)

    def _connect(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self.connect()
            self._connection.autocommit = True
        return self._connection


def _mark(connection: Connection, segment: str) -> int:
    """Give how much of a segment is committed; its row stays locked in this transaction."""
    connection.execute(
        "INSERT INTO shipped_segments (segment, shipped_bytes) VALUES (%s, 0) "
        "ON CONFLICT DO NOTHING",
        (segment,),
    )
    query = "SELECT shipped_bytes FROM shipped_segments WHERE segment = %s FOR UPDATE"
    [marked] = connection.execute(query, (segment,)).fetchone() or [0]
    return int(marked)


def _is_small(chunk: Sequence[SegmentRecord]) -> bool:
    """Whether a living segment gave all that it had, rather than all that is read at once."""
    return chunk[-1].end - chunk[0].offset < CHUNK_BYTES // 2


@contextmanager
def _open_segment(path: Path) -> Iterator[tuple[int | None, bool]]:
    """Open a segment and tell whether its writer is gone; None when it was removed meanwhile."""
    try:
        segment = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None, False
        return
    try:
        is_finished = _locks(segment)
        # Another shipper may have finished and removed it between the two calls.
        yield (segment if os.fstat(segment).st_nlink else None), is_finished
    finally:
        os.close(segment)


def _locks(segment: int) -> bool:
    try:
        fcntl.flock(segment, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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
        query = "SELECT segment, shipped_bytes FROM shipped_segments WHERE segment = ANY (%s)"
        rows = connection.execute(query, ([path.name for path in segments],)).fetchall()
        shipped: dict[str, int] = dict(rows)
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


def _time_us(record: SegmentRecord) -> int:
    if record.kind in LABEL_KINDS:
        return LabelRecord.unpack(record.body, record.kind).received_at_us
    return PredictionRecord.unpack(record.body).predicted_at_us
