"""TCP ports on this machine: which is free, is something listening, who holds it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from infrastructure.errors import ServiceError

LOOPBACK = "127.0.0.1"
HIGHEST = 65535
LISTEN = "0A"


def any_free(host: str = LOOPBACK) -> int:
    """Give a port that nobody listens on, chosen by the kernel."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Tell whether a server could listen on this port now."""
    with socket.socket() as probe:
        # As servers do: connections of an ended server that still linger are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def next_free(wanted: int, host: str = LOOPBACK) -> int:
    """Give the wanted port, or the first free one after it."""
    for port in range(wanted, HIGHEST + 1):
        if is_free(port, host):
            return port
    raise ServiceError(f"No port from {wanted} to {HIGHEST} is free on {host}. Choose a lower one.")


def answers(port: int, host: str = LOOPBACK, timeout_s: float = 0.5) -> bool:
    """Tell whether something listens; a server too busy to accept in time counts as listening."""
    try:
        with socket.create_connection((host, port), timeout_s):
            return True
    except TimeoutError:
        return True
    except OSError:
        return False


def is_held_by(port: int, pids: Iterable[int]) -> bool:
    """Tell whether one of these processes listens on the port."""
    sockets = _listening_sockets(port)
    return any(name in sockets for pid in pids for name in _open_files(pid))


def holder(port: int) -> str | None:
    """Name the process that listens on a port, as far as we may see: ``python (pid 42)``."""
    sockets = _listening_sockets(port)
    for entry in os.listdir("/proc"):
        if entry.isdigit() and any(name in sockets for name in _open_files(int(entry))):
            with suppress(OSError):
                return f"{Path('/proc', entry, 'comm').read_text().strip()} (pid {entry})"
    return None


def _listening_sockets(port: int) -> set[str]:
    """Find the sockets that listen on a port, by the name they have among open files."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(f"socket:[{fields[9]}]")
    return found


def _open_files(pid: int) -> Iterator[str]:
    folder = f"/proc/{pid}/fd"
    with suppress(OSError):  # it has ended, or belongs to somebody else
        for entry in os.listdir(folder):
            with suppress(OSError):
                yield os.readlink(f"{folder}/{entry}")
