"""Servers that misbehave: silent, dribbling, full; each takes real connections."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

DRIBBLE_S = 0.02
LONG_REPLY = b"*1\r\n$220\r\n" + b"x" * 220 + b"\r\n"


@contextmanager
def silent() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield _url(server)


@contextmanager
def dribbling(*, greets: bool = False) -> Iterator[str]:
    """A server that answers a byte every 20 ms: no single wait is long.

    Parameters
    ----------
    greets
        Whether it answers at once what is not a read of rows: the handshake, and which versions
        there are.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_serve, args=(server, greets), daemon=True)
        thread.start()
        yield _url(server)
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@contextmanager
def full() -> Iterator[str]:
    """A server that accepts nobody, its queue full: the kernel drops what knocks."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(server.getsockname())
        yield _url(server)
        for each in waiting:
            each.close()


def _serve(server: socket.socket, greets: bool) -> None:
    with suppress(OSError):
        while True:
            connection = server.accept()[0]
            threading.Thread(target=_answer, args=(connection, greets), daemon=True).start()


def _answer(connection: socket.socket, greets: bool) -> None:
    with connection, suppress(OSError):
        while asked := connection.recv(65536):
            if greets and b"MGET" not in asked:
                commands = asked.count(b"\r\n*") + 1
                ready = b"$5\r\nready\r\n"
                connection.sendall(ready if b"HGET" in asked else b"+OK\r\n" * commands)
                continue
            for byte in LONG_REPLY:
                connection.sendall(bytes([byte]))
                time.sleep(DRIBBLE_S)


def _url(server: socket.socket) -> str:
    return f"redis://:secret@127.0.0.1:{server.getsockname()[1]}/0"
