"""The sockets that the API listens on: the wanted port, or the next free one; one a worker."""

from __future__ import annotations

import errno
import socket
import sys

from infrastructure.servers import ports
from serving.errors import PortUnavailable

SOCKET_BUFFER_BYTES = 256 * 1024
"""Of each connection and direction, in the kernel, which would let them grow to some 5 MB each for
callers who send much or read nothing; enough for 2 MB/s over a line of a tenth of a second."""


def listen(
    host: str, port: int, exact: bool = False, *, share: bool = False, listening: bool = True
) -> socket.socket:
    """Listen on a port, or on the next free one, and say so.

    Parameters
    ----------
    exact
        Take this port or none.
    share
        Take this port also beside another process that shares it; the kernel divides
        connections among those that listen.
    listening
        Whether to listen already; a socket that is bound alone takes no connection.

    Raises
    ------
    PortUnavailable
        If the address cannot be used at all, or the port is taken and must be exact.
    """
    if not 0 <= port <= ports.HIGHEST:
        raise PortUnavailable(f"{port} is no port; expected a number up to {ports.HIGHEST}.")
    for candidate in [port] if exact or share else range(port, ports.HIGHEST + 1):
        try:
            listener = ports.listen(
                host,
                candidate,
                share=share,
                listening=listening,
                buffer_bytes=SOCKET_BUFFER_BYTES,
            )
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


def join(first: socket.socket, times: int, *, listening: bool = True) -> list[socket.socket]:
    """Give so many sockets on the port of the first one, which is among them.

    The first may have been bound alone: the port was never let go in between. It shares from now
    on, with sockets of this account. With ``listening`` the others take connections at once.

    Raises
    ------
    PortUnavailable
        If the kernel refuses.
    """
    if times == 1:
        return [first]
    first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    host, port = first.getsockname()[:2]
    return [first, *[listen(host, port, share=True, listening=listening) for _ in range(times - 1)]]
