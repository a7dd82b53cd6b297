"""A server process on a core of its own: started, measured from outside, stopped."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from configs.settings import ROOT
from infrastructure.servers.ports import take_any

SERVER_CORE, LOAD_CORE = 0, 1
START_LIMIT_S = 90.0
STOP_LIMIT_S = 20.0
LOOK_S = 0.002
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class NoAnswer(Exception):
    """A server did not answer as it should; the message says what it wrote."""


@dataclass(frozen=True)
class Subject:
    """What is measured: a server and the requests that it is sent.

    Parameters
    ----------
    command
        Takes a port, gives the command that serves there.
    path, bodies
        Where JSON is posted, and what in turn.
    cores
        Where it may run.
    """

    name: str
    command: Callable[[int], Sequence[str]]
    bodies: Sequence[str]
    path: str = "/predict"
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = ROOT
    cores: frozenset[int] = frozenset({SERVER_CORE})


@dataclass(frozen=True)
class Server:
    """A running subject."""

    subject: Subject
    port: int
    pid: int
    first_answer_s: float

    def cpu_us(self) -> float:
        """Processor time of all its processes so far."""
        return sum(_cpu_us(pid) for pid in _tree(self.pid))

    def resident_mb(self) -> list[float]:
        """Resident memory of each of its processes."""
        return [_resident_mb(pid) for pid in _tree(self.pid)]


@contextmanager
def running(subject: Subject, log: Path) -> Iterator[Server]:
    """Start a server and wait for its first answer.

    Raises
    ------
    NoAnswer
        If there is none in time.
    """
    taken = take_any(listening=False)
    port = taken.number
    began = time.perf_counter()
    with log.open("wb") as output, _on(subject.cores):
        process = subprocess.Popen(
            subject.command(port),
            cwd=subject.folder,
            env={**os.environ, **subject.environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _await_answer(subject, port, process, log)
        yield Server(subject, port, process.pid, time.perf_counter() - began)
    finally:
        taken.close()
        _stop(process)


def _await_answer(subject: Subject, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    answer = ""
    while time.monotonic() < deadline and process.poll() is None:
        answer = post(port, subject.path, subject.bodies[0]) or answer
        if answer.startswith("HTTP/1.1 200"):
            return
        time.sleep(LOOK_S)
    last = log.read_text(errors="replace").strip().splitlines()[-3:]
    raise NoAnswer(f"{subject.name} did not answer: {answer[:300]} {' '.join(last)}")


def post(port: int, path: str, body: str) -> str:
    """Post JSON once, and give the answer as it comes; empty when nobody listens."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Connection: close\r\nContent-Length: {len(body.encode())}\r\n\r\n"
    )
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall((head + body).encode())
            parts = iter(lambda: connection.recv(65536), b"")
            return b"".join(parts).decode(errors="replace")
    except OSError:
        return ""


@contextmanager
def _on(cores: frozenset[int]) -> Iterator[None]:
    """Let what is started meanwhile run on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        for pid in _tree(process.pid)[::-1]:
            os.kill(pid, 9)
        process.wait()


def _tree(pid: int) -> list[int]:
    """A process and its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        found = [int(child) for child in children.read_text().split()]
    except OSError:
        found = []
    return [pid, *[each for child in found for each in _tree(child)]]


def _cpu_us(pid: int) -> float:
    total = 0
    for stat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(stat.read_text().split()[0])
        except OSError:  # the thread has ended
            continue
    return total / 1000


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * PAGE_BYTES / 2**20
