"""One of the processes of a host does what must be done once: whoever holds the lock."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path


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

    def held(self) -> bool:
        """Tell whether this holds the lock; take it when it is free.

        Raises
        ------
        OSError
            If the file cannot be made or locked.
        """
        with self._guard:
            if self._file is None:
                self._file = self._taken()
            return self._file is not None

    def release(self) -> None:
        """Leave the lock to others."""
        with self._guard:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _taken(self) -> int | None:
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
