"""TCP ports on this machine: taken before a program needs one, who listens, who holds it.

A port that is looked up and let go again can be somebody else's a moment later, and some programs
import for seconds before they listen. So a port is bound first, and the socket passed to programs
that take one (`TakenPort.listener`). The others are started on a port that is *reserved*: no other
start of ours chooses it meanwhile. What else takes it in between is noticed by who starts them.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from infrastructure.errors import ServiceError

LOOPBACK = "127.0.0.1"
HIGHEST = 65535
BACKLOG = 2048
LISTEN = "0A"


@dataclass(frozen=True)
class TakenPort:
    """A port that no other program of ours takes until `close`.

    Parameters
    ----------
    listener
        A socket that listens there, for a program that takes one; None for one that does not.
    reservation
        What keeps other starts of ours from choosing the port.
    """

    number: int
    listener: socket.socket | None
    reservation: socket.socket

    def close(self) -> None:
        """Let go: the program listens by itself now, or has inherited the socket."""
        self.reservation.close()
        if self.listener is not None:
            self.listener.close()


def take(port: int, host: str = LOOPBACK, *, listening: bool) -> TakenPort | None:
    """Take a port; None if another program holds it or is about to.

    Parameters
    ----------
    port
        0 for any.
    listening
        Whether to listen already, for a program that inherits the socket.

    Raises
    ------
    OSError
        If the address cannot be used at all.
    """
    try:
        listener = listen(host, port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    number: int = listener.getsockname()[1]
    reservation = _reserve(number, host)
    if reservation is None:
        listener.close()
        return None
    if not listening:
        listener.close()
    return TakenPort(number, listener if listening else None, reservation)


def listen(
    host: str,
    port: int,
    *,
    share: bool = False,
    listening: bool = True,
    buffer_bytes: int | None = None,
) -> socket.socket:
    """Listen on a port, with ``share`` beside others of the same account.

    Without ``listening`` the port is bound, and takes no connection yet.

    Parameters
    ----------
    buffer_bytes
        Of each connection and direction, in the kernel; None as the kernel likes.

    Raises
    ------
    OSError
        If the address cannot be used, or the port is taken.
    """
    if port == 0:
        return _listen_anywhere(host, share, listening, buffer_bytes)
    listener = _bind(host, port, share)
    try:
        if buffer_bytes is not None:
            for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):  # connections inherit it
                listener.setsockopt(socket.SOL_SOCKET, buffer, buffer_bytes)
        if listening:
            listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _listen_anywhere(
    host: str, share: bool, listening: bool, buffer_bytes: int | None
) -> socket.socket:
    """Listen on a port that the kernel chooses, as if it had been asked for by its number.

    A socket that was given a port of the kernel's choice loses it when it is shut down.
    """
    while True:
        with _bind(host, 0, share) as chosen:
            try:
                return listen(
                    host,
                    chosen.getsockname()[1],
                    share=share,
                    listening=listening,
                    buffer_bytes=buffer_bytes,
                )
            except OSError as error:
                if error.errno != errno.EADDRINUSE:  # else somebody was quicker to listen
                    raise


def _bind(host: str, port: int, share: bool) -> socket.socket:
    listener = socket.socket(_family(host), socket.SOCK_STREAM)
    try:
        # Connections of an ended server that still linger are no obstacle.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(share))
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def http_url(host: str, port: int | str) -> str:
    """Give the URL under which programs on this machine reach a server that listens on a host.

    Examples
    --------
    >>> http_url("::1", 8801), http_url("0.0.0.0", 8801)
    ('http://[::1]:8801', 'http://localhost:8801')
    """
    return f"http://{_bracketed('localhost' if host == LOOPBACK or is_any(host) else host)}:{port}"


def is_any(host: str) -> bool:
    """Tell whether a host stands for all addresses of this machine."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_unspecified
    return False


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Tell whether nobody listens on this port now; `take` it to have it."""
    try:
        listen(host, port).close()
    except OSError:
        return False
    return True


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


def take_from(wanted: int, host: str = LOOPBACK, *, listening: bool) -> TakenPort:
    """Take the wanted port, or the first after it that can be had.

    Raises
    ------
    ServiceError
        If none can be had.
    """
    for port in range(wanted, HIGHEST + 1):
        taken = take(port, host, listening=listening)
        if taken is not None:
            return taken
    raise ServiceError(f"No port from {wanted} to {HIGHEST} is free on {host}. Choose a lower one.")


def take_any(host: str = LOOPBACK, *, listening: bool) -> TakenPort:
    """Take a port that the kernel chooses."""
    while True:  # what it chooses is free; that another start of ours has reserved it is rare
        taken = take(0, host, listening=listening)
        if taken is not None:
            return taken


def _reserve(port: int, host: str) -> socket.socket | None:
    """Reserve a port among programs of ours on this machine; None if one has reserved it.

    An abstract name is gone with its holder, however that ends.
    """
    reservation = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        reservation.bind(f"\0fti port {port}")
    except OSError:
        reservation.close()
        return None
    return reservation


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


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
