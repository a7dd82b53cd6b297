"""Records in segment files, and how one of them is found."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest

from infrastructure.errors import WorkOverdue
from monitoring.log import segments
from monitoring.log.segments import MAX_BODY_BYTES, PIECE_BYTES, SegmentWriter, find_record, frame

KIND = b"PRD1"
RESERVED = 40 * PIECE_BYTES


def written(folder: Path, bodies: list[bytes]) -> SegmentWriter:
    writer = SegmentWriter(folder / "a-1.segment", RESERVED)
    writer.write(b"".join(frame(KIND, body) for body in bodies))
    return writer


def body(n: int, size: int = 100) -> bytes:
    return f"{n:016d}".encode() + os.urandom(size - 16)


def test_a_record_is_found_wherever_it_lies(tmp_path: Path) -> None:
    bodies = [body(n, MAX_BODY_BYTES - n) for n in range(12)] + [body(n) for n in range(12, 500)]
    written(tmp_path, bodies)
    for n in (0, 3, 4, 7, 8, 11, 12, 499):
        assert find_record(tmp_path, KIND, bodies[n][:16]) == bodies[n]
    assert find_record(tmp_path, KIND, b"9" * 16) is None
    assert find_record(tmp_path, b"LAB1", bodies[0][:16]) is None


def test_what_is_reserved_and_not_written_is_not_looked_through(tmp_path: Path) -> None:
    writer = written(tmp_path, [body(n) for n in range(100)])

    class Counted(io.FileIO):
        n_bytes = 0

        def read(self, size: int | None = -1, /) -> bytes:  # type: ignore[override]
            data = super().read(size)
            self.n_bytes += len(data or b"")
            return data or b""

    with Counted(writer.path) as opened:
        assert segments._find_in(opened, KIND, bytes(16)) is None
        assert opened.n_bytes <= 2 * PIECE_BYTES < RESERVED


def test_a_segment_that_was_last_changed_before_a_prediction_does_not_hold_it(
    tmp_path: Path,
) -> None:
    bodies = [body(1)]
    written(tmp_path, bodies)
    assert find_record(tmp_path, KIND, bodies[0][:16], time.time() - 60) == bodies[0]
    assert find_record(tmp_path, KIND, bodies[0][:16], time.time() + 60) is None


def test_a_search_ends_when_nobody_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, [body(1)])

    def ended() -> None:
        raise WorkOverdue("over")

    monkeypatch.setattr(segments, "checkpoint", ended)
    with pytest.raises(WorkOverdue):
        find_record(tmp_path, KIND, b"9" * 16)
