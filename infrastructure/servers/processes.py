"""Processes seen through ``/proc``: is it the one that we started, what belongs to it, end it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
POLL_S = 0.02


@dataclass(frozen=True)
class Process:
    """A process that a later one with the same number is not mistaken for.

    Parameters
    ----------
    pid
        Its number, which the kernel gives to another process some time after it has ended.
    started
        When it started, in clock ticks since boot: tells the two apart.
    """

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """Describe the process that has this number now; None if there is none."""
        seen = _look(pid)
        return None if seen is None else cls(pid, seen.started)

    def is_alive(self) -> bool:
        """Tell whether this very process is there; one that only waits to be reaped is not."""
        seen = _look(self.pid)
        return seen is not None and seen.started == self.started and not seen.is_over

    def family(self) -> set[int]:
        """Find the living processes of the session that this process leads, or led."""
        leader = _look(self.pid)
        if leader is not None and leader.started != self.started:
            return set()
        return {
            seen.pid
            for seen in _all_alive()
            if seen.session == self.pid and seen.started >= self.started
        }


def find_in(folder: Path, program: str) -> set[int]:
    """Find the living processes of a program whose working folder is this one."""
    return {
        seen.pid
        for seen in _all_alive()
        if seen.program == program and _working_folder(seen.pid) == str(folder)
    }


def descendants(pid: int) -> set[int]:
    """Find the living children of a process, their children, and so on, whatever their session."""
    found: set[int] = set()
    alive = list(_all_alive())
    parents = {pid}
    while parents:
        parents = {seen.pid for seen in alive if seen.parent in parents} - found
        found |= parents
    return found


def end(find: Callable[[], set[int]], gentle: int, patience_s: float = 20) -> bool:
    """End processes and wait until they are gone.

    Parameters
    ----------
    find
        Gives the processes that still live.
    gentle
        The signal that asks them to end; after ``patience_s`` they are killed.

    Returns
    -------
    bool
        False if some had to be killed.
    """
    if _signal_and_wait(find, gentle, patience_s):
        return True
    _signal_and_wait(find, signal.SIGKILL, patience_s)
    return False


def _signal_and_wait(find: Callable[[], set[int]], number: int, patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    for pid in find():
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    while find():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


@dataclass(frozen=True)
class _Seen:
    """The parts of ``/proc/PID/stat`` that matter here."""

    pid: int
    program: str
    state: str
    parent: int
    session: int
    started: int

    @property
    def is_over(self) -> bool:
        return self.state in "ZX"


def _look(pid: int) -> _Seen | None:
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    head, _, tail = text.rpartition(")")  # a program's name may hold spaces and parentheses
    fields = tail.split()
    return _Seen(
        pid, head.partition("(")[2], fields[0], int(fields[1]), int(fields[3]), int(fields[19])
    )


def _all_alive() -> Iterator[_Seen]:
    """Look at all processes except those that only wait to be reaped."""
    for entry in os.listdir(PROC):
        if entry.isdigit() and (seen := _look(int(entry))) and not seen.is_over:
            yield seen


def _working_folder(pid: int) -> str | None:
    try:
        return os.readlink(PROC / str(pid) / "cwd")
    except OSError:  # it has ended, or belongs to somebody else
        return None
