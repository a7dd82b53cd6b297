"""HTTP for uvicorn, with the head and the body of an answer in one write.

uvicorn writes them one after the other, and each write is a call into the kernel, a packet, and
mostly a wake-up of the reader.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD, _INTERIM = b"HTTP/1.1 ", b"HTTP/1.1 1"


class OneWriteProtocol(HttpToolsProtocol):
    """uvicorn's protocol over a transport that holds the head of an answer until its body comes."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection."""
        self.app_state["busy_wait"].requests = self.tasks
        super().connection_made(_HeadHolder(transport))  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        """Take what a caller sends."""
        self.app_state["busy_wait"].note_request()
        super().data_received(data)

    def on_response_complete(self) -> None:
        """End an answer, which may have had no body."""
        self.transport.flush()  # type: ignore[attr-defined]
        super().on_response_complete()
        self.app_state["busy_wait"].note_answer()


class _HeadHolder:
    """What uvicorn uses of a transport."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self.get_extra_info = transport.get_extra_info
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.set_protocol = transport.set_protocol

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
            self._transport.write(data)
        elif data.startswith(_HEAD) and not data.startswith(_INTERIM):
            self._head = data
        else:
            self._transport.write(data)

    def flush(self) -> None:
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
