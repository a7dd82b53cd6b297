"""What one process of a host does for all its workers: stage deployments, ship the log."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

from infrastructure.background import Repeating


class HostAgent:
    """Works while it holds the host's lock; another process takes over when that one ends.

    Parameters
    ----------
    lock
        Of the host; each process has an agent, and one of them holds it.
    stage, ship
        One step of the work, and of the other; each is called again and again from a thread.
    stage_interval_s, ship_interval_s
        Pauses between the steps.
    """

    def __init__(
        self,
        lock: HostLock,
        stage: Callable[[], object],
        ship: Callable[[], object],
        stage_interval_s: float,
        ship_interval_s: float,
    ) -> None:
        self.lock = lock
        self.ship = ship
        self.has_looked = threading.Event()
        self.staging = Repeating("deployments", lambda: self._look(stage), stage_interval_s)
        self.shipping = Repeating("prediction log", self._ship, ship_interval_s)

    def start(self) -> None:
        """Begin; `has_looked` is set when the first step of staging is over."""
        self.staging.start()
        self.shipping.start()

    def stop(self) -> None:
        """End, and leave the lock to others; receipts are shipped first, whoever holds it."""
        self.staging.stop()
        self.shipping.stop()
        self.shipping.action = self.ship
        self.shipping.attempt()
        self.lock.release()

    def _look(self, stage: Callable[[], object]) -> None:
        try:
            if self.lock.take():
                stage()
        finally:
            self.has_looked.set()

    def _ship(self) -> None:
        if self.lock.take():
            self.ship()


class HostLock:
    """A lock on a file; the kernel frees it when its holder ends, in whatever way.

    A process that was forked from the holder does not hold it: take it after forking.

    Parameters
    ----------
    path
        The file; made with its folder when it is not there, and never removed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        self._guard = threading.Lock()

    def take(self) -> bool:
        """Take the lock when it is free; tell whether this holds it.

        Raises
        ------
        OSError
            If the file cannot be made or locked.
        """
        with self._guard:
            if self._file is None:
                self._file = self._open_locked()
            return self._file is not None

    def release(self) -> None:
        """Leave the lock to others."""
        with self._guard:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _open_locked(self) -> int | None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        except OSError:
            os.close(file)
            raise
        return file
