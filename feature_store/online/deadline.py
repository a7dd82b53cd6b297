"""One deadline for all that a Redis client does inside a block, however many waits it takes.

redis-py bounds each wait on a socket (``socket_timeout``). A read is many waits: connecting, the
handshake, a command or two, and each piece of a reply; a server that sends a byte at a time could
prolong it for ever.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from redis import Redis
    from redis.asyncio import Redis as AsyncRedis

A = TypeVar("A")

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
    pool: Any = client.connection_pool
    pool.connection_class = _mixed(BoundedConnection, pool.connection_class)
    return client


def bounded_by_cancelling(client: AsyncRedis) -> AsyncRedis:
    """The client; a connection that is cancelled, as by ``asyncio.timeout``, is closed."""
    pool: Any = client.connection_pool
    pool.connection_class = _mixed(CancelledConnection, pool.connection_class)
    return client


@cache
def _mixed(mixin: type, plain: type) -> Any:
    return type(f"{mixin.__name__}{plain.__name__}", (mixin, plain), {})


def time_left(seconds: float | None) -> float | None:
    """Seconds that a wait may take: no longer than ``seconds`` and than the deadline."""
    until: float | None = getattr(_thread, "until", None)
    if until is None:
        return seconds
    left = max(until - time.monotonic(), 0.0)
    return left if seconds is None else min(left, seconds)


class BoundedConnection:
    """Holds a connection class of redis-py to the deadline while it connects and sends."""

    _connect_timeout: float | None = None

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

    def set_parser(self, parser_class: type) -> None:
        """Take what reads replies, held to the deadline too."""
        super().set_parser(_mixed(BoundedParser, parser_class))  # type: ignore[misc]


class BoundedParser:
    """Holds a parser of redis-py, which reads replies, to the deadline: each piece of them."""

    _timeout: float | None = None

    def on_connect(self, connection: Any) -> None:
        """Begin with a new connection."""
        self._timeout = connection.socket_timeout
        super().on_connect(connection)  # type: ignore[misc]

    def read_from_socket(self, *args: Any, **named: Any) -> bool:
        """Wait for the next piece; a caller may name a time to wait of its own."""
        left = self._timeout if args or named else time_left(self._timeout)
        if left == self._timeout:
            return bool(super().read_from_socket(*args, **named))  # type: ignore[misc]
        # Even when no time is left: what has come already, to a thread that was kept from
        # running, is no reason to fail.
        if not super().read_from_socket(timeout=left, raise_on_timeout=False):  # type: ignore[misc]
            raise TimeoutError("the deadline has passed")
        return True


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
