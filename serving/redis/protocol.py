"""One connection to Redis that answers in time or is closed.

After a read that took too long, its reply would come to the next reader: somebody else's
features. So the connection of a late read is never used again.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, cast
from urllib.parse import unquote, urlsplit

import hiredis

from feature_store.errors import StoreUnavailable

Take = Callable[[Any], None]
"""Takes a reply, or the `StoreUnavailable` in its place; it must not raise."""
DEFAULT_PORT = 6379
CONNECT_LIMIT_S = 0.5
GRACE_S = 0.002
"""When the event loop itself was late, the reply may lie there unread: look once more."""


@dataclass(frozen=True)
class RedisAddress:
    """Where a Redis server is, as in its URL."""

    host: str
    port: int
    path: str | None
    username: str | None
    password: str | None
    database: int
    is_encrypted: bool

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read ``redis://``, ``rediss://`` or ``unix://``.

        Examples
        --------
        >>> RedisAddress.parse("redis://:secret@cache:6380/2").database
        2
        """
        parts = urlsplit(url)
        number = parts.path.strip("/") if parts.scheme != "unix" else ""
        return cls(
            host=parts.hostname or "127.0.0.1",
            port=parts.port or DEFAULT_PORT,
            path=unquote(parts.path) if parts.scheme == "unix" else None,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            database=int(number) if number.isdigit() else 0,
            is_encrypted=parts.scheme == "rediss",
        )

    @property
    def greeting(self) -> list[tuple[str, ...]]:
        """The commands that open a connection; the last shows that the server answers."""
        commands: list[tuple[str, ...]] = []
        if self.password is not None:
            credentials = (self.username, self.password) if self.username else (self.password,)
            commands.append(("AUTH", *credentials))
        if self.database:
            commands.append(("SELECT", str(self.database)))
        return [*commands, ("PING",)]


class RedisConnection(asyncio.Protocol):
    """Sends commands in order and gives each its reply, every one before its deadline.

    Parameters
    ----------
    deadline_s
        Longest wait for a reply; when it passes, all waiting commands fail and the connection
        closes.
    """

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self.is_open = False
        self._reader = hiredis.Reader()
        self._waiting: deque[_Waiting] = deque()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    async def open(cls, address: RedisAddress, deadline_s: float) -> Self:
        """Connect and greet the server.

        Raises
        ------
        StoreUnavailable
            If it cannot be reached or does not answer within the deadline.
        """
        loop = asyncio.get_running_loop()
        connection = cls(deadline_s)
        context = ssl.create_default_context() if address.is_encrypted else None
        try:
            async with asyncio.timeout(CONNECT_LIMIT_S):
                if address.path is not None:
                    await loop.create_unix_connection(lambda: connection, address.path)
                else:
                    await loop.create_connection(
                        lambda: connection, address.host, address.port, ssl=context
                    )
            for command in address.greeting:
                await connection.send(command)
        except (OSError, TimeoutError) as error:
            connection.close()
            reason = str(error) or f"no connection within {CONNECT_LIMIT_S:g} s"
            raise StoreUnavailable(f"Redis cannot be reached: {reason}.") from error
        except StoreUnavailable:
            connection.close()
            raise
        return connection

    def send(self, command: Sequence[str]) -> asyncio.Future[Any]:
        """Send a command; the future gives its reply or fails with `StoreUnavailable`."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def take(reply: object) -> None:
            if future.done():
                return
            if isinstance(reply, StoreUnavailable):
                future.set_exception(reply)
                future.exception()  # mark it as retrieved: the caller may have gone
            else:
                future.set_result(reply)

        self.ask(command, take)
        return future

    def ask(self, command: Sequence[str], take: Take) -> None:
        """Send a command; ``take`` gets its reply when it comes, or `StoreUnavailable`."""
        loop = asyncio.get_running_loop()
        if self._transport is None or not self.is_open:
            loop.call_soon(take, StoreUnavailable("The connection to Redis is closed."))
            return
        self._waiting.append(_Waiting(take, loop.time() + self.deadline_s))
        if self._timer is None:
            self._timer = loop.call_later(self.deadline_s, self._look)
        self._transport.write(hiredis.pack_command(tuple(command)))  # type: ignore[arg-type]

    def close(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note that the connection stands."""
        self._transport = cast(asyncio.Transport, transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Pass each reply to the oldest waiting command."""
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                waiting = self._waiting.popleft()
                if isinstance(reply, hiredis.HiredisError):
                    waiting.fail(f"Redis refused: {reply}.")
                else:
                    waiting.take(reply)
        except (hiredis.ProtocolError, IndexError) as error:
            self._fail_all(f"Redis sent what is no reply: {error}.")
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Fail all waiting commands."""
        self.is_open = False
        if self._timer is not None:
            self._timer.cancel()
        self._fail_all(f"Redis closed the connection{f': {error}' if error else ''}.")

    def _look(self) -> None:
        """Look whether the one that has waited longest is late; one timer serves them all."""
        self._timer = None
        if not self._waiting:
            return
        loop, first = asyncio.get_running_loop(), self._waiting[0]
        left_s = first.due - loop.time()
        if left_s > 0:
            self._timer = loop.call_later(left_s, self._look)
        else:
            self._timer = loop.call_later(GRACE_S, self._look_once_more, first)

    def _look_once_more(self, late: _Waiting) -> None:
        if self._waiting and self._waiting[0] is late:
            self._give_up()
        else:
            self._look()

    def _give_up(self) -> None:
        self.is_open = False
        self._fail_all(f"Redis did not answer within {self.deadline_s * 1000:g} ms.")
        self.close()

    def _fail_all(self, reason: str) -> None:
        while self._waiting:
            self._waiting.popleft().fail(reason)


class _Waiting(NamedTuple):
    """A command that has been sent: what takes its reply, and when it is due."""

    take: Take
    due: float

    def fail(self, reason: str) -> None:
        self.take(StoreUnavailable(reason))
