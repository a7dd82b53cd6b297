"""A proxy in front of a server: it lets bytes through late, or not at all."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

CHUNK = 1 << 16


class SlowProxy:
    """Passes bytes on; answers come after a delay that may change at any time.

    Parameters
    ----------
    server
        Gives the URL of the server, which may move.

    Attributes
    ----------
    delay_s
        Gives how late the next answer is.
    is_cut
        While it is, connections are closed as soon as they are made.
    """

    def __init__(self, server: Callable[[], str]) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.delay_s: Callable[[], float] = lambda: 0.0
        self.is_cut = False
        parts = urlsplit(server())
        self.url = server().replace(f":{parts.port}", f":{self._listener.getsockname()[1]}", 1)
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Close all connections, and new ones from now on."""
        self.is_cut = True
        for each in self._open:
            _hang_up(each)
        self._open.clear()

    def close(self) -> None:
        """End."""
        self.cut()
        _hang_up(self._listener)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        parts = urlsplit(self._server())
        try:
            if self.is_cut:
                raise ConnectionRefusedError
            server = socket.create_connection((parts.hostname, parts.port))
        except OSError:
            client.close()
            return
        self._open += [client, server]
        for source, target, delay_s in (
            (client, server, lambda: 0.0),
            (server, client, self._delay_now),
        ):
            thread = threading.Thread(target=_pass, args=(source, target, delay_s), daemon=True)
            thread.start()

    def _delay_now(self) -> float:
        return self.delay_s()


@contextmanager
def slow_proxy(server: Callable[[], str]) -> Iterator[SlowProxy]:
    """Run a proxy in front of the server of a URL."""
    proxy = SlowProxy(server)
    try:
        yield proxy
    finally:
        proxy.close()


def _pass(source: socket.socket, target: socket.socket, delay_s: Callable[[], float]) -> None:
    with suppress(OSError):
        while content := source.recv(CHUNK):
            time.sleep(delay_s())
            target.sendall(content)
    _hang_up(target)


def _hang_up(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
