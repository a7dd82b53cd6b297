"""Callers that mean harm, or do it: each a program of its own that ends after some seconds.

``python -m benchmarks.subjects.hostile NAME PORT SECONDS``. None of them has a key, or needs one.
"""

from __future__ import annotations

import gzip
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

MEBIBYTE = 2**20
LARGEST_BODY = 16 * MEBIBYTE
JSON = b"Content-Type: application/json\r\n"
NICE = 10
"""Attackers give way to those who measure, with whom they share a core."""


def _post(path: str, body: bytes, headers: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    head = b"POST %b HTTP/1.1\r\nHost: x\r\n" % path.encode()
    return b"%b%b%b%b\r\n%b" % (head, JSON, length, headers, body)


def _filled(start: bytes, unit: bytes, end: bytes, size: int = LARGEST_BODY) -> bytes:
    """A body of this size, full of one thing."""
    return start + unit * ((size - len(start) - len(end)) // len(unit)) + end


class Attack:
    """Connections that are held, each in a thread, until the time is over."""

    def __init__(self, port: int, duration_s: float) -> None:
        self.port = port
        self.ends_s = time.monotonic() + duration_s

    def again(self) -> Iterator[socket.socket]:
        """Connections, one after the other, until the time is over."""
        while time.monotonic() < self.ends_s:
            with suppress(OSError), socket.socket() as connection:
                connection.settimeout(max(self.ends_s - time.monotonic(), 0.1))
                connection.connect(("127.0.0.1", self.port))
                yield connection

    def at_once(self, number: int, act: Callable[[socket.socket], None]) -> None:
        """Let so many act, again and again."""

        def run() -> None:
            for connection in self.again():
                with suppress(OSError):
                    act(connection)

        threads = [threading.Thread(target=run) for _ in range(number)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def send(self, number: int, content: bytes) -> None:
        """Send something whole, and read what is answered."""

        def act(connection: socket.socket) -> None:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass

        self.at_once(number, act)

    def flood(self, number: int, start: bytes, unit: bytes) -> None:
        """Send one thing for ever, behind a start."""

        def act(connection: socket.socket) -> None:
            connection.sendall(start)
            while time.monotonic() < self.ends_s:
                connection.sendall(unit)

        self.at_once(number, act)

    def hold(self, number: int, content: bytes, *, trickle_s: float | None = None) -> None:
        """Send something to so many connections, and leave them; each trickles on if told to."""
        held: list[socket.socket] = []
        for connection in self.again():
            connection.sendall(content)
            held.append(connection.dup())
            if len(held) > number:
                held.pop(0).close()
            if trickle_s is None:
                continue
            time.sleep(trickle_s / number)
            with suppress(OSError):
                held[0].sendall(b"a")

    def read_nothing(self, number: int, content: bytes) -> None:
        """Ask for much and take nothing of it."""

        def act(connection: socket.socket) -> None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(content)
            time.sleep(max(self.ends_s - time.monotonic(), 0))

        self.at_once(number, act)


def attacks() -> dict[str, Callable[[Attack], None]]:
    """All of them, by name."""
    head = b"GET /health HTTP/1.1\r\nHost: x\r\n"
    kib31 = b"X-A: " + b"a" * (31 * 1024)
    rows = json.dumps({"rows": [{"user_id": n} for n in range(1, 10_001)]}).encode()
    fields = json.dumps({f"a{n}": n for n in range(4_500)}).encode()
    nested = _filled(b'{"labels": [{"a": [', b"{},", b"{}]}]}")
    wide = _filled(b'{"rows": [{"workclass": "\xf0\x9f\x98\x80', b"a", b'"}]}')
    deep = _filled(b'{"rows": [', b'{"a":[', b"")
    bomb = gzip.compress(_filled(b'{"rows": [', b"{},", b"{}]}"))
    chunked = (
        b"POST /feedback HTTP/1.1\r\nHost: x\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\n"
    )
    half = _post("/predict", b'{"user_id": 7}')[:-5]
    packed = _post("/predict/batch", bomb, b"Content-Encoding: gzip\r\n")
    page = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"
    return {
        "nobody": lambda a: time.sleep(max(a.ends_s - time.monotonic(), 0)),
        "endless_header": lambda a: a.flood(6, head + b"X-A: ", b"a" * MEBIBYTE),
        "endless_headers": lambda a: a.flood(6, head, b"X-A: a\r\n" * 100_000),
        "endless_trailer": lambda a: a.flood(6, chunked + b"1\r\n{\r\n0\r\nX-A: ", b"a" * MEBIBYTE),
        "half_sent_heads": lambda a: a.hold(2_000, head + kib31, trickle_s=2),
        "silent_connections": lambda a: a.hold(3_000, b""),
        "half_sent_bodies": lambda a: a.hold(900, half, trickle_s=2),
        "sent_far_ahead": lambda a: a.flood(50, b"", (head + b"\r\n") * 2_000),
        "nested_objects": lambda a: a.send(10, _post("/feedback", nested)),
        "wide_characters": lambda a: a.send(10, _post("/predict/batch", wide)),
        "deep_objects": lambda a: a.send(10, _post("/predict/batch", deep)),
        "bombs": lambda a: a.send(10, packed),
        "too_large": lambda a: a.send(10, _post("/predict", nested)),
        "unknown_fields": lambda a: a.send(10, _post("/predict", fields)),
        "largest_batches": lambda a: a.send(10, _post("/predict/batch", rows)),
        "small_chunks": lambda a: a.flood(10, chunked, b"1\r\n \r\n" * 100_000),
        "unread_batches": lambda a: a.read_nothing(100, _post("/predict/batch", rows)),
        "unread_pages": lambda a: a.read_nothing(300, page * 10),
        "no_http": lambda a: a.send(20, b"\x16\x03\x01\x02\x00" * 100),
    }


def main(name: str, port: int, duration_s: float) -> None:
    """Attack."""
    os.nice(NICE)
    partial(attacks()[name], Attack(port, duration_s))()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
