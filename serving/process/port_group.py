"""A worker's place among those that share its port: in while it has a model, or nobody else is.

The kernel divides connections among the sockets that listen on a port. One that is shut down leaves
them, and enters again when it listens. So a worker without a model takes no traffic beside one that
has it, be that of the same supervisor or of another process; and alone it says what it lacks.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from infrastructure.servers.ports import is_any

LOOK_S = 0.2
ASK_LIMIT_S = 1.0
ASKED_AT_ONCE = 3
"""The kernel chooses who answers; one of three connections most likely meets somebody else."""
READY_REQUEST = b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
READY_ANSWER = b"HTTP/1.1 200"


class Doors(Protocol):
    """What lets connections in."""

    @property
    def are_open(self) -> bool:
        """Whether connections are taken."""

    async def open(self) -> None:
        """Take connections."""

    async def close(self) -> None:
        """Take none, once those that wait have been taken."""


def is_shared(listener: socket.socket) -> bool:
    """Tell whether other sockets may listen on the port too."""
    return bool(listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))


def is_listening(listener: socket.socket) -> bool:
    """Tell whether connections reach this socket already."""
    return bool(listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


async def find_place(doors: Doors, has_model: Callable[[], bool], listener: socket.socket) -> None:
    """Open or close the doors as the others on the port are, until there is a model.

    Parameters
    ----------
    has_model
        Whether predictions can be answered here; it never ceases to.
    listener
        Names the port.
    """
    while not has_model():
        answers = await asyncio.gather(*[_ask(listener) for _ in range(ASKED_AT_ONCE)])
        if has_model():
            break
        if True in answers and doors.are_open:
            await doors.close()
        elif not doors.are_open and all(answer is None for answer in answers):
            await doors.open()
        await asyncio.sleep(LOOK_S)
    if not doors.are_open:
        await doors.open()


async def _ask(listener: socket.socket) -> bool | None:
    """Tell whether who listens on the port is ready; None when nobody does."""
    host, port = listener.getsockname()[:2]
    if is_any(host):
        host = "::1" if listener.family == socket.AF_INET6 else "127.0.0.1"
    writer = None
    try:
        async with asyncio.timeout(ASK_LIMIT_S):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(READY_REQUEST)
            return (await reader.readline()).startswith(READY_ANSWER)
    except ConnectionRefusedError:
        return None
    except (OSError, TimeoutError, ValueError):
        return False
    finally:
        if writer is not None:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
