"""The socket that the API listens on: the wanted port, or the next free one."""

from __future__ import annotations

import errno
import socket
import sys

from infrastructure.servers import ports
from serving.errors import PortUnavailable

BACKLOG = 2048
SOCKET_BUFFER_BYTES = 256 * 1024
"""Of each connection and direction, in the kernel, which would let them grow to some 5 MB each for
callers who send much or read nothing; enough for 2 MB/s over a line of a tenth of a second."""


def listen(host: str, port: int, exact: bool = False, *, share: bool = False) -> socket.socket:
    """Listen on a port, or on the next free one, and say so.

    Parameters
    ----------
    exact
        Take this port or none.
    share
        Take this port also beside another process that shares it; the kernel divides
        connections among them.

    Raises
    ------
    PortUnavailable
        If the address cannot be used at all, or the port is taken and must be exact.
    """
    if not 0 <= port <= ports.HIGHEST:
        raise PortUnavailable(f"{port} is no port; expected a number up to {ports.HIGHEST}.")
    for candidate in [port] if exact or share else range(port, ports.HIGHEST + 1):
        try:
            listener = _bind(host, candidate, share)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise PortUnavailable(
                    f"The API cannot listen on {host}:{candidate}: {error.strerror}. Choose "
                    "another with --host and --port."
                ) from error
            continue
        if candidate != port:
            holder = ports.holder(port) or "another program"
            print(f"Port {port} is held by {holder}: the API uses {candidate}.", file=sys.stderr)
        return listener
    holder = ports.holder(port) or "another program"
    raise PortUnavailable(f"Port {port} is held by {holder}. Stop it, or choose another port.")


def listen_often(
    host: str, port: int, exact: bool = False, *, share: bool = False, times: int
) -> list[socket.socket]:
    """Listen so many times on one port, for as many workers; see `listen`."""
    if times == 1:
        return [listen(host, port, exact, share=share)]
    if not share:
        # One that shares no port shows whether another program listens there.
        with listen(host, port, exact) as alone:
            port = alone.getsockname()[1]
    first = listen(host, port, share=True)
    port = first.getsockname()[1]
    return [first, *[listen(host, port, share=True) for _ in range(times - 1)]]


def _bind(host: str, port: int, share: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(share))
        for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):  # connections inherit it
            listener.setsockopt(socket.SOL_SOCKET, buffer, SOCKET_BUFFER_BYTES)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
