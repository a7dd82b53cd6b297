"""What stands between a protocol and its socket."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

_HEAD, _INTERIM = b"HTTP/1.1 ", b"HTTP/1.1 1"
_LARGE_BYTES = 64 * 1024
"""A longer body is written by itself: to copy it would cost more than another write."""
LINGER_BYTES = 64 * 1024
"""Of anything but a body no more is taken: who sends on is left waiting, which costs nothing."""
BODY_LINGER_BYTES = 32 * 1024 * 1024
"""Of a body no more is dropped: whoever sends more does not listen."""
_AT_ONCE = struct.pack("ii", 1, 0)
LINGER_S = 2.0
"""So long what a refused caller still sends is taken and dropped. To close at once would reset the
connection, and the caller's kernel might drop the refusal unread."""


class AnswerTransport:
    """What uvicorn uses of a transport; the head of an answer waits for its body.

    Parameters
    ----------
    protocol
        Who writes; told when the connection is lost.
    """

    def __init__(self, transport: asyncio.Transport, protocol: Any) -> None:
        self._transport = transport
        self._protocol = protocol
        self._head = b""
        self.get_extra_info = transport.get_extra_info
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.set_protocol = transport.set_protocol

    def write(self, data: bytes) -> None:
        """Write, or hold back what is the head of an answer."""
        if self._head:
            if len(data) > _LARGE_BYTES:
                self.flush()
            else:
                data, self._head = self._head + data, b""
            self._transport.write(data)
        elif data.startswith(_HEAD) and not data.startswith(_INTERIM):
            self._head = data
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Write what is held back."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def close(self) -> None:
        """Close when all is written, and when a body that was refused has been dropped."""
        cycle = self._protocol.cycle
        if self._protocol.must_linger or (cycle is not None and cycle.more_body):
            self.linger()
        else:
            self.flush()
            self._transport.close()

    def linger(self) -> None:
        """Write nothing more, and drop what comes until the caller hangs up, a moment at most."""
        self.flush()
        if self.is_closing():
            return
        self.is_closing = lambda: True
        cycle = self._protocol.cycle
        has_body = cycle is not None and cycle.more_body
        lingering = _Lingering(self._transport, self._protocol, has_body=has_body)
        self._transport.set_protocol(lingering)
        self._transport.resume_reading()
        self._transport.write_eof()

    def reset(self) -> None:
        """Hang up at once; the kernel, too, forgets what was not sent."""
        connection = self._transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self._transport.abort()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Lingering(asyncio.Protocol):
    """Drops what comes; tells the protocol before it of nothing but the end."""

    def __init__(
        self, transport: asyncio.Transport, before: asyncio.Protocol, *, has_body: bool
    ) -> None:
        self._transport = transport
        self._before = before
        self._has_body = has_body
        self._left_bytes = BODY_LINGER_BYTES if has_body else LINGER_BYTES
        loop = asyncio.get_running_loop()
        self._end = loop.call_later(LINGER_S, transport.abort)

    def pause_writing(self) -> None:
        self._before.pause_writing()

    def resume_writing(self) -> None:
        self._before.resume_writing()

    def data_received(self, data: bytes) -> None:
        self._left_bytes -= len(data)
        if self._left_bytes < 0 and self._has_body:
            self._transport.abort()
        elif self._left_bytes < 0:
            self._transport.pause_reading()

    def eof_received(self) -> None:
        pass

    def connection_lost(self, exc: Exception | None) -> None:
        self._end.cancel()
        self._before.connection_lost(exc)
