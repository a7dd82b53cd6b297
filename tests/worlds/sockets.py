"""HTTP byte by byte: callers that do what no client library does."""

from __future__ import annotations

import json
import socket
from typing import Any

import httpx

USER = b'{"user_id": 7}'
JSON = b"Content-Type: application/json\r\n"


def connect(api: httpx.Client) -> socket.socket:
    """A connection to an API."""
    return socket.create_connection((api.base_url.host, api.base_url.port or 80), timeout=10)


def request(
    path: str, body: bytes | None = None, *, headers: bytes = b"", method: str | None = None
) -> bytes:
    """The bytes of a request."""
    verb = method or ("GET" if body is None else "POST")
    head = b"%b %b HTTP/1.1\r\nHost: x\r\n%b" % (verb.encode(), path.encode(), headers)
    if body is not None:
        head += b"%bContent-Length: %d\r\n" % (JSON, len(body))
    return head + b"\r\n" + (body or b"")


def until_closed(connection: socket.socket) -> bytes:
    """All that comes until the other side hangs up."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def answer_of(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """One answer with a Content-Length: its status, headers and body."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _some(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    status, headers = _head(head)
    while len(body) < int(headers.get("content-length", "0")):
        body += _some(connection)
    return status, headers, body


def last_answer(received: bytes) -> tuple[int, dict[str, Any]]:
    """The only answer in what was received: its status and its JSON."""
    head, _, body = received.partition(b"\r\n\r\n")
    return _head(head)[0], json.loads(body)


def _some(connection: socket.socket) -> bytes:
    part = connection.recv(65536)
    assert part, "the connection was closed"
    return part


def _head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = [line.split(": ", 1) for line in lines]
    return int(first.split()[1]), {name.lower(): value for name, value in pairs}
