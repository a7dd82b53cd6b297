"""Segment files: records that survive their process, each checked by itself.

A record is ``length, CRC-32, kind, body``: two little-endian unsigned 32-bit numbers, four bytes
of kind, and ``length`` bytes of body; the checksum covers kind and body. A segment is preallocated,
so after the last record come zeros. Its one writer holds a lock on it for as long as it lives:
a segment that can be locked is finished, whatever has become of its writer.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Iterable
from functools import lru_cache
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from infrastructure.work import checkpoint

SUFFIX = ".segment"
MAX_BODY_BYTES = 1024 * 1024
"""Readers take this much at once and more, so that every record fits into what they look at."""
_HEADER = struct.Struct("<II4s")
HEADER_BYTES = _HEADER.size
_KIND_AT = 8
PIECE_BYTES = 4 * MAX_BODY_BYTES
"""So much of a segment is looked through at once: longer than any record, and some 5 ms."""


class SegmentRecord(NamedTuple):
    """A record as read back."""

    offset: int
    end: int
    kind: bytes
    body: bytes


def frame(kind: bytes, body: bytes) -> bytes:
    """Give a record's bytes.

    Raises
    ------
    ValueError
        If the body is so long that readers would not take it for a record.
    """
    if len(body) > MAX_BODY_BYTES:
        raise ValueError(f"A record of {len(body)} bytes; at most {MAX_BODY_BYTES} are read back.")
    return _HEADER.pack(len(body), zlib.crc32(body, _begun(kind)), kind) + body


@lru_cache(maxsize=16)
def _begun(kind: bytes) -> int:
    """The checksum of a record, as far as its kind."""
    return zlib.crc32(kind)


def read_records(data: bytes, offset: int = 0, start: int = 0) -> list[SegmentRecord]:
    """Read sound records from ``data[start:]`` up to the first place that is none.

    Parameters
    ----------
    offset
        Where ``data`` begins in the segment; the records' offsets count from there.
    """
    records, place = [], start
    while (record := _record_at(data, place, offset)) is not None:
        records.append(record)
        place = record.end - offset
    return records


def next_sound_record(data: bytes, start: int, kinds: Iterable[bytes]) -> int | None:
    """Find where the first sound record of these kinds begins at or after ``start``."""
    found = []
    for kind in kinds:
        place = data.find(kind, start + 8)
        while place >= 0 and _record_at(data, place - 8, 0) is None:
            place = data.find(kind, place + 1)
        if place >= 0:
            found.append(place - 8)
    return min(found, default=None)


def find_record(folder: Path, kind: bytes, start: bytes, written_after: float = 0) -> bytes | None:
    """Find the body that starts with these bytes in the segments of a folder, newest first.

    Parameters
    ----------
    start
        Long enough to be the record's own, such as its id.
    written_after
        Seconds since 1970: segments that were last changed before do not hold it.

    Raises
    ------
    WorkOverdue
        If nobody waits for it any more.
    """
    for path in sorted(folder.glob(f"*{SUFFIX}"), key=_changed_at, reverse=True):
        if _changed_at(path) < written_after:
            break
        try:
            with path.open("rb", buffering=0) as opened:
                found = _find_in(opened, kind, start)
        except FileNotFoundError:  # shipped and removed meanwhile
            continue
        if found is not None:
            return found
    return None


def _find_in(segment: FileIO, kind: bytes, start: bytes) -> bytes | None:
    """Find a body in one segment, a piece at a time, and no further than its records reach."""
    held, wanted = b"", kind + start
    while True:
        checkpoint()
        piece = segment.read(PIECE_BYTES)
        held += piece
        place = held.find(wanted)
        while place >= 0:
            record = _record_at(held, place - _KIND_AT, 0)
            if record is not None:
                return record.body
            place = held.find(wanted, place + 1)
        # What is reserved and not written yet is all zeros, and far longer than any record.
        if piece == bytes(len(piece)):
            return None
        held = held[-(HEADER_BYTES + MAX_BODY_BYTES) :]


class SegmentWriter:
    """The one writer of a new segment.

    Parameters
    ----------
    path
        Must not exist; readers see the file only when it is locked and has its full size.
    size
        Bytes to reserve, so that a full disk shows now and not in the middle of a record.

    Raises
    ------
    OSError
        If the file cannot be made or the space is not there.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self.end = 0
        unseen = path.with_suffix(".new")
        self._file = os.open(unseen, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(self._file, 0, size)
            os.link(unseen, path)  # unlike a rename, it refuses a name that is taken
        except OSError:
            os.close(self._file)
            raise
        finally:
            unseen.unlink()

    def has_room(self, size: int) -> bool:
        """Tell whether so many bytes fit."""
        return self.end + size <= self.size

    def write(self, data: bytes) -> None:
        """Append bytes; when it returns they survive this process.

        Raises
        ------
        OSError
            If they cannot all be written; none of them count then.
        """
        written = 0
        while written < len(data):
            written += os.pwrite(self._file, data[written:], self.end + written)
        self.end += len(data)

    def close(self) -> None:
        """Give the segment up: cut what was reserved but not used, and unlock it."""
        if self._file >= 0:
            try:
                os.ftruncate(self._file, self.end)
            finally:
                os.close(self._file)
                self._file = -1


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _record_at(data: bytes, place: int, offset: int) -> SegmentRecord | None:
    body_at = place + _HEADER.size
    if place < 0 or body_at > len(data):
        return None
    length, checksum, kind = _HEADER.unpack_from(data, place)
    body = data[body_at : body_at + length]
    if len(body) < length or checksum != zlib.crc32(body, _begun(kind)):
        return None
    return SegmentRecord(offset + place, offset + body_at + length, kind, body)
