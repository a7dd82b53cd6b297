"""One deadline for all that a Redis client does inside a block, however many waits it takes.

redis-py bounds each wait on a socket (``socket_timeout``). A read is many waits: connecting, the
handshake, a command or two, and each piece of a reply; a server that sends a byte at a time could
prolong it for ever.
"""

from __future__ import annotations

import select
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import socket

    from redis import Redis
    from redis.asyncio import Redis as AsyncRedis

A = TypeVar("A")
B = TypeVar("B")

_thread = threading.local()


class deadline:  # noqa: N801 - reads as a statement: ``with deadline(0.05):``
    """All waits inside the block end within some seconds of its start; the outermost one counts.

    Parameters
    ----------
    seconds
        None for no limit.
    """

    __slots__ = ("_outer", "_seconds")

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._outer = getattr(_thread, "until", None)
        if self._outer is None and self._seconds is not None:
            _thread.until = time.monotonic() + self._seconds

    def __exit__(self, *_: object) -> None:
        _thread.until = self._outer


def deadline_of(client: Redis) -> deadline:
    """The deadline of one call of a client: its ``socket_timeout``."""
    return deadline(client.connection_pool.connection_kwargs.get("socket_timeout"))


def bounded(client: Redis) -> Redis:
    """The client, its connections held to `deadline`; one that is late is closed, not reused."""
    _mix(client.connection_pool, BoundedConnection)
    return client


def bounded_by_cancelling(client: AsyncRedis) -> AsyncRedis:
    """The client; a connection that is cancelled, as by ``asyncio.timeout``, is closed."""
    _mix(client.connection_pool, CancelledConnection)
    return client


def _mix(pool: Any, mixin: type) -> None:
    plain = pool.connection_class
    pool.connection_class = type(f"Bounded{plain.__name__}", (mixin, plain), {})


def time_left(seconds: float | None) -> float | None:
    """Seconds that a wait may take: no longer than ``seconds`` and than the deadline."""
    until: float | None = getattr(_thread, "until", None)
    if until is None or seconds == 0:
        return seconds
    left = max(until - time.monotonic(), 0.0)
    return left if seconds is None else min(left, seconds)


class BoundedConnection:
    """Holds a connection class of redis-py to the deadline, from connecting to the last byte."""

    _connect_timeout: float | None = None
    _parser: Any
    _sock: Any

    @property
    def socket_connect_timeout(self) -> float | None:
        """What is left for connecting; asked once an address.

        Raises
        ------
        TimeoutError
            If the deadline has passed.
        """
        left = time_left(self._connect_timeout)
        if left == 0:
            raise TimeoutError("the deadline has passed")
        return left

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, seconds: float | None) -> None:
        self._connect_timeout = seconds

    def can_read(self, timeout: float = 0) -> bool:
        """Whether anything has come, or the server has gone; the pool asks before each call."""
        # redis-py tries to read, which costs more than all the rest of this module.
        reader = getattr(self._parser, "_reader", None)
        if self._sock is None or reader is None:
            return bool(super().can_read(timeout))  # type: ignore[misc]
        return bool(self._sock.has_something(timeout) or reader.has_data())

    def _connect(self) -> Any:
        return _BoundedSocket(super()._connect())  # type: ignore[misc]


class CancelledConnection:
    """Closes a connection of ``redis.asyncio`` that is cancelled while it is being opened.

    redis-py would put it back among the usable ones, with answers to its greeting on their way.
    """

    async def connect(self) -> None:
        """Connect and greet the server, or close."""
        await self._or_close(super().connect())  # type: ignore[misc]

    async def can_read_destructive(self) -> bool:
        """Whether anything has come; the pool asks before each call."""
        return bool(await self._or_close(super().can_read_destructive()))  # type: ignore[misc]

    async def _or_close(self, waiting: Awaitable[A]) -> A:
        try:
            return await waiting
        except BaseException:
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            raise


class _BoundedSocket:
    """A socket whose waits end by the deadline; the rest is the socket's own."""

    def __init__(self, wrapped: socket.socket) -> None:
        self._wrapped = wrapped
        self._timeout = wrapped.gettimeout()
        self._poll = select.poll()
        self._poll.register(wrapped, select.POLLIN)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)

    def has_something(self, seconds: float) -> bool:
        return bool(self._poll.poll(seconds * 1000))

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def recv_into(self, buffer: bytearray) -> int:
        return self._in_time(self._wrapped.recv_into, buffer)

    def recv(self, size: int) -> bytes:
        return self._in_time(self._wrapped.recv, size)

    def sendall(self, data: bytes) -> None:
        self._in_time(self._wrapped.sendall, data)

    def _in_time(self, call: Callable[[A], B], argument: A) -> B:
        left = time_left(self._timeout)
        self._wrapped.settimeout(left)
        try:
            # Even when no time is left: what has come already, to a thread that was kept from
            # running, is no reason to fail.
            return call(argument)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if left == self._timeout:  # a wait of no time is what was asked for
                raise
            raise TimeoutError("the deadline has passed") from None
