"""A wire between a program and a server, and what is done at one of the messages on it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

Action = Callable[[], None]
CHUNK = 1 << 20
PARTS = {"nothing of it": 0.0, "half of it": 0.5, "all of it": 1.0}
"""How much of the last message gets through."""


class Tripwire:
    """Counts messages of a program over several wires; at one of them it acts, once.

    Parameters
    ----------
    at
        The message, counted from 1; 0 for none.
    part
        How much of that message still gets through.
    action
        What happens then.
    """

    def __init__(self, at: int = 0, part: str = "all of it", action: Action | None = None) -> None:
        self.at, self.part = at, PARTS[part]
        self.action = action or (lambda: None)
        self.count = 0
        self.tripped = threading.Event()
        self._lock = threading.Lock()

    def pass_on(self, message: bytes, send: Callable[[bytes], None]) -> None:
        """Pass a message on, and act when it is the one."""
        with self._lock:
            self.count += 1
            if self.count != self.at:
                send(message)
                return
            send(message[: int(len(message) * self.part)])
            self.action()
            self.tripped.set()


class Wire:
    """Listens on a port of its own and passes everything on to the server of a URL."""

    def __init__(self, url: str, tripwire: Tripwire) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self._server = (parts.hostname, parts.port)
        self._tripwire = tripwire
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        port = self._listener.getsockname()[1]
        self.url = url.replace(f":{parts.port}", f":{port}", 1)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Cut all connections."""
        for each in (self._listener, *self._open):
            _hang_up(each)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(self._server)
                except OSError:
                    client.close()
                    continue
                self._open += [client, server]
                for work in (self._requests, self._answers):
                    threading.Thread(target=work, args=(client, server), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while message := client.recv(CHUNK):
                self._tripwire.pass_on(message, server.sendall)
        _hang_up(server)

    def _answers(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while answer := server.recv(CHUNK):
                client.sendall(answer)
        _hang_up(client)


def _hang_up(end: socket.socket) -> None:
    # Closing alone would wait for whoever is just receiving.
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
