"""The prediction log's writer: no answer leaves before its receipt is in a segment file.

What is promised: a receipt survives the death of the process, at any moment. What is not: a power
failure may take what the operating system has not yet written to the disk.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

from monitoring.errors import LogUnavailable
from monitoring.log.record import KIND_PREDICTION
from monitoring.log.segments import SUFFIX, SegmentWriter, frame


class PredictionLog:
    """Appends receipts and labels to segment files of its own; use an instance from one thread.

    Parameters
    ----------
    folder
        Where segments lie until they have been shipped; made when it is not there.
    segment_bytes
        Size at which the next segment is begun.
    """

    def __init__(self, folder: Path, segment_bytes: int) -> None:
        self.folder = folder
        self.segment_bytes = segment_bytes
        self.problem: str | None = None
        # The nonce tells incarnations apart when a process number is used again.
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._segments = 0
        self._writer: SegmentWriter | None = None

    def open(self) -> None:
        """Begin a segment unless one is open, to find out whether receipts can be written.

        Raises
        ------
        LogUnavailable
            If it cannot be made.
        """
        self.append([])

    def append(self, bodies: Sequence[bytes], kind: bytes = KIND_PREDICTION) -> None:
        """Append records; when it returns they survive this process.

        Raises
        ------
        LogUnavailable
            If they cannot be written: none of them may be acknowledged.
        """
        data = b"".join([frame(kind, body) for body in bodies])
        try:
            self._writer_for(len(data)).write(data)
            self.problem = None
        except OSError as error:
            self._abandon()
            self.problem = f"{error.strerror} ({self.folder})"
            raise LogUnavailable(
                f"The prediction log cannot be written: {self.problem}. Free space there; "
                "predictions are answered again as soon as they can be recorded."
            ) from error

    def close(self) -> None:
        """Finish the segment; the shipper takes it from here."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _writer_for(self, size: int) -> SegmentWriter:
        if self._writer is not None and self._writer.has_room(size):
            return self._writer
        self.close()
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self.name}-{self._segments:06d}{SUFFIX}"
        self._segments += 1
        self._writer = SegmentWriter(path, max(self.segment_bytes, size))
        return self._writer

    def _abandon(self) -> None:
        """After a failed write begin another segment: this one may end in half a record."""
        try:
            self.close()
        except OSError:
            self._writer = None


class SharedLog(PredictionLog):
    """A prediction log that several threads may append to, one after the other."""

    def __init__(self, folder: Path, segment_bytes: int) -> None:
        super().__init__(folder, segment_bytes)
        self._one_at_a_time = threading.Lock()

    def append(self, bodies: Sequence[bytes], kind: bytes = KIND_PREDICTION) -> None:
        """Append records; see `PredictionLog.append`."""
        with self._one_at_a_time:
            super().append(bodies, kind)
