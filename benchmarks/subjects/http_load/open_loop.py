"""Open loop: requests leave on a schedule, whether or not the earlier ones were answered.

The time to an answer counts from when its request was due, so that a server that falls behind
cannot hide it. Gaps between requests are exponential (Poisson arrivals), seeded.
"""

from __future__ import annotations

import ctypes
import gc
import os
import random
import select
import socket
import statistics
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

CONNECTIONS = 256
CLOCK_MONOTONIC, NONBLOCK = 1, 0o4000
GIVE_UP_S = 5.0
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class OpenLoad:
    """What a run found; times in milliseconds from when the request was due."""

    answers: int
    p50_ms: float
    p99_ms: float
    failed: int


def open_loop(
    port: int, path: str, bodies: Sequence[str], rate: float, duration_s: float
) -> OpenLoad:
    """Send ``rate`` requests a second; what is late by seconds at the end counts as failed."""
    requests = [_request(path, body) for body in bodies]
    gc.disable()
    try:
        return _Run(port, requests, _schedule(rate, duration_s)).result()
    finally:
        gc.enable()


def _request(path: str, body: str) -> bytes:
    content = body.encode()
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    ).encode() + content


def _schedule(rate: float, duration_s: float) -> list[float]:
    chance, due, times = random.Random(7), 0.0, []
    while (due := due + chance.expovariate(rate)) < duration_s:
        times.append(due)
    return times


class _Run:
    """One run: connections, some of them waiting for an answer, and one timer."""

    def __init__(self, port: int, requests: Sequence[bytes], due: Sequence[float]) -> None:
        self.requests, self.due = requests, due
        self.poll, self.timer = select.epoll(), _timer()
        self.poll.register(self.timer, select.EPOLLIN)
        self.connections = [_connected(port) for _ in range(CONNECTIONS)]
        self.by_number = {each.fileno(): each for each in self.connections}
        for connection in self.connections:
            self.poll.register(connection, select.EPOLLIN)
        self.idle = list(self.connections)
        self.waiting: dict[int, tuple[float, bytes]] = {}
        self.taken_ms: list[float] = []
        self.failed = 0

    def result(self) -> OpenLoad:
        """Send everything, and collect the answers."""
        began, sent = time.perf_counter() + 0.01, 0
        ends = began + self.due[-1] + GIVE_UP_S
        while (sent < len(self.due) or self.waiting) and time.perf_counter() < ends:
            sent = self._send_due(began, sent)
            for number, _ in self.poll.poll(0.1):
                if number == self.timer:
                    os.read(number, 8)
                else:
                    self._receive(number)
        self.close()
        failed = self.failed + len(self.due) - len(self.taken_ms)
        cuts = statistics.quantiles(self.taken_ms, n=100)
        return OpenLoad(len(self.taken_ms), cuts[49], cuts[98], failed)

    def close(self) -> None:
        """Close everything."""
        for connection in self.connections:
            connection.close()
        os.close(self.timer)
        self.poll.close()

    def _send_due(self, began: float, sent: int) -> int:
        now = time.perf_counter() - began
        while sent < len(self.due) and self.due[sent] <= now and self.idle:
            connection = self.idle.pop()
            self.waiting[connection.fileno()] = began + self.due[sent], b""
            connection.send(self.requests[sent % len(self.requests)])
            sent += 1
        if sent < len(self.due) and self.idle:
            _arm(self.timer, max(self.due[sent] - (time.perf_counter() - began), 1e-6))
        return sent

    def _receive(self, number: int) -> None:
        connection = self.by_number[number]
        arrived = connection.recv(65536)
        if not arrived:  # closed by the server: what it owed counts as failed
            self.poll.unregister(number)
            self.idle = [each for each in self.idle if each is not connection]
            self.waiting.pop(number, None)
            return
        due, before = self.waiting[number]
        received = before + arrived
        head, separator, body = received.partition(b"\r\n\r\n")
        if not separator or len(body) < _length(head):
            self.waiting[number] = due, received
            return
        self.failed += not head.startswith(b"HTTP/1.1 200")
        self.taken_ms.append((time.perf_counter() - due) * 1000)
        del self.waiting[number]
        self.idle.append(connection)


def _length(head: bytes) -> int:
    _, _, rest = head.lower().partition(b"content-length:")
    return int(rest.partition(b"\r\n")[0])


def _connected(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _timer() -> int:
    """A timer that a poll can wait for; the poll's own counts in whole milliseconds."""
    return int(_libc.timerfd_create(CLOCK_MONOTONIC, NONBLOCK))


def _arm(timer: int, delay_s: float) -> None:
    whole = int(delay_s)
    _libc.timerfd_settime(
        timer, 0, struct.pack("qqqq", 0, 0, whole, int((delay_s - whole) * 1e9)), None
    )
