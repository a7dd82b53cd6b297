import errno
import itertools
import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given, strategies as st

from monitoring.errors import LogUnavailable
from monitoring.log.segments import (
    MAX_BODY_BYTES,
    SegmentWriter,
    frame,
    next_sound_record,
    read_records,
)
from monitoring.log.writer import PredictionLog

KIND = b"TST1"


def bodies(data: bytes) -> list[bytes]:
    return [record.body for record in read_records(data)]


def segments(folder):
    return sorted(folder.glob("*.segment"))


@given(st.lists(st.binary(max_size=100)), st.data())
def test_what_was_written_before_a_tear_is_read_and_nothing_else(written, data):
    frames = [frame(KIND, body) for body in written]
    content = b"".join(frames)
    ends = list(itertools.accumulate(map(len, frames)))
    cut = data.draw(st.integers(0, len(content)))

    torn = content[:cut]

    assert bodies(torn) == [body for body, end in zip(written, ends, strict=True) if end <= cut]
    # Where zeros were reserved, a tear that lost nothing but zeros lost nothing.
    sound = [not any(content[cut:end]) for end in ends]
    assert bodies(torn + bytes(1000)) == list(itertools.compress(written, sound))


def test_a_tear_that_lost_only_zeros_lost_nothing_where_zeros_were_reserved():
    torn = frame(KIND, b"\x01\x00")[:-1]

    assert bodies(torn) == []
    assert bodies(torn + bytes(1000)) == [b"\x01\x00"]


@given(st.lists(st.binary(max_size=100), min_size=2), st.data())
def test_a_damaged_record_stops_reading_and_the_next_sound_one_is_found(written, data):
    frames = [frame(KIND, body) for body in written]
    damaged = data.draw(st.integers(0, len(frames) - 2))
    start = sum(map(len, frames[:damaged]))
    content = bytearray(b"".join(frames))
    content[start + data.draw(st.integers(0, len(frames[damaged]) - 1))] ^= 0x40

    assert bodies(bytes(content))[:damaged] == written[:damaged]
    assert len(bodies(bytes(content))) == damaged
    assert next_sound_record(bytes(content), start, [KIND]) == start + len(frames[damaged])


def test_a_body_too_long_to_be_read_back_is_not_written():
    with pytest.raises(ValueError, match="at most 1048576 are read back"):
        frame(KIND, bytes(MAX_BODY_BYTES + 1))


def test_receipts_are_in_the_file_when_append_returns(tmp_path):
    log = PredictionLog(tmp_path, segment_bytes=4096)
    log.append([b"one", b"two"])
    log.append([b"three"])

    [path] = segments(tmp_path)
    assert bodies(path.read_bytes()) == [b"one", b"two", b"three"]
    assert path.stat().st_size == 4096


def test_a_full_segment_is_followed_by_another(tmp_path):
    log = PredictionLog(tmp_path, segment_bytes=100)
    for number in range(10):
        log.append([bytes([number]) * 30])

    paths = segments(tmp_path)
    assert len(paths) == 5
    assert [b[0] for path in paths for b in bodies(path.read_bytes())] == list(range(10))


def test_a_record_larger_than_a_segment_gets_one_of_its_size(tmp_path):
    log = PredictionLog(tmp_path, segment_bytes=100)
    log.append([bytes(500)])

    assert bodies(segments(tmp_path)[0].read_bytes()) == [bytes(500)]


def test_a_closed_segment_keeps_only_what_was_used(tmp_path):
    log = PredictionLog(tmp_path, segment_bytes=4096)
    log.append([b"one"])
    log.close()

    assert segments(tmp_path)[0].read_bytes() == frame(b"PRD1", b"one")


def test_two_writers_never_share_a_segment(tmp_path):
    writer = SegmentWriter(tmp_path / "a.segment", 100)

    with pytest.raises(FileExistsError):
        SegmentWriter(tmp_path / "a.segment", 100)
    writer.write(b"still mine")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.segment"]


def test_a_folder_that_cannot_be_written_is_said_and_recovers(tmp_path):
    (tmp_path / "log").write_text("in the way")
    log = PredictionLog(tmp_path / "log", segment_bytes=4096)

    with pytest.raises(LogUnavailable, match="The prediction log cannot be written: File exists"):
        log.append([b"one"])
    assert log.problem is not None

    (tmp_path / "log").unlink()
    log.append([b"one"])
    assert log.problem is None
    assert bodies(segments(tmp_path / "log")[0].read_bytes()) == [b"one"]


def test_what_a_failed_write_left_is_cut_off(tmp_path, monkeypatch):
    log = PredictionLog(tmp_path, segment_bytes=4096)
    log.append([b"one"])
    real_write = os.pwrite

    def short_write_then_full(file: int, data: bytes, place: int) -> int:
        if place > len(frame(KIND, b"one")):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(file, data[:5], place)

    monkeypatch.setattr(os, "pwrite", short_write_then_full)
    with pytest.raises(LogUnavailable, match="No space left on device"):
        log.append([b"never acknowledged"])
    monkeypatch.undo()
    log.append([b"two"])

    first, second = segments(tmp_path)
    assert first.read_bytes() == frame(b"PRD1", b"one")
    assert bodies(second.read_bytes()) == [b"two"]


def test_short_writes_are_continued(tmp_path, monkeypatch):
    real_write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, place: real_write(file, data[:3], place))
    log = PredictionLog(tmp_path, segment_bytes=4096)
    log.append([b"in small pieces"])

    assert bodies(segments(tmp_path)[0].read_bytes()) == [b"in small pieces"]


def test_a_receipt_survives_the_death_of_its_process(tmp_path):
    program = (
        "import os, signal, sys; from pathlib import Path; "
        "from monitoring.log.writer import PredictionLog; "
        "log = PredictionLog(Path(sys.argv[1]), 4096); "
        "[log.append([bytes([n])]) for n in range(50)]; "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)

    assert ended.returncode == -signal.SIGKILL
    assert bodies(segments(tmp_path)[0].read_bytes()) == [bytes([n]) for n in range(50)]
