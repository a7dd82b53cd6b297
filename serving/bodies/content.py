"""Bodies of requests: refused by their heads, read within limits, decompressed."""

from __future__ import annotations

import zlib
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from serving.errors import BodyTooLarge, BodyTypeRefused, BodyUnreadable
from serving.middleware.access import Headers
from serving.middleware.request_gate import HEADERS

GZIP = b"gzip"
_GZIP_WINDOW = 31
"""For zlib: a header and a checksum of gzip around the stream."""


async def read_json(scope: Scope, receive: Receive, largest_bytes: int) -> bytes:
    """Read the whole body of a request that says that it sends JSON, plain or compressed.

    Raises
    ------
    BodyTooLarge
        If it is longer than allowed, also when it is decompressed.
    BodyTypeRefused
        If it has another type or another compression.
    BodyUnreadable
        If it is not compressed as its head says.
    ClientDisconnect
        If the caller leaves before its end.
    """
    headers: Headers = scope[HEADERS]
    require_json(headers, largest_bytes)
    message = await receive()
    if b"content-encoding" in headers or message.get("more_body", True):
        content = await _read_parts(message, receive, largest_bytes)
        return inflate(content, headers, largest_bytes)
    whole: bytes = message["body"]
    if len(whole) > largest_bytes:
        raise _too_large(largest_bytes)
    return whole


async def read_body(scope: Scope, receive: Receive, largest_bytes: int) -> bytearray:
    """Read the whole body as it comes, as `read_json` does; `inflate` makes JSON of it."""
    require_json(scope[HEADERS], largest_bytes)
    return await _read_parts(await receive(), receive, largest_bytes)


def require_json(headers: Headers, largest_bytes: int) -> None:
    """Refuse by its head what is no JSON, or too much of it.

    Raises
    ------
    BodyTooLarge, BodyTypeRefused
        See `read_json`.
    """
    length = headers.get(b"content-length")
    if length is not None and int(length) > largest_bytes:
        raise _too_large(largest_bytes)
    kind = headers.get(b"content-type", b"")
    if kind != b"application/json":
        plain = kind.partition(b";")[0].strip().lower()
        if plain != b"application/json" and not plain.endswith(b"+json"):
            raise BodyTypeRefused(
                f"The body is said to be {_word(kind) if kind else 'nothing'}; expected a JSON "
                "object, sent with Content-Type: application/json."
            )
    encoding = headers.get(b"content-encoding")
    if encoding is not None and (encoding := encoding.strip().lower()) not in {GZIP, b"identity"}:
        raise BodyTypeRefused(
            f"The body is said to be compressed by {_word(encoding)}; expected gzip, or none "
            "(leave Content-Encoding out)."
        )


def expected_bytes(headers: Headers, largest_bytes: int) -> int:
    """Tell how large a body may turn out to be, by its head."""
    if is_gzip(headers):
        return 2 * largest_bytes  # while it is decompressed it is there in parts and as a whole
    length = headers.get(b"content-length")
    return largest_bytes if length is None else int(length)


def is_gzip(headers: Headers) -> bool:
    """Tell whether a body is compressed."""
    return headers.get(b"content-encoding", b"").strip().lower() == GZIP


def accepts_gzip(headers: Headers) -> bool:
    """Tell whether an answer may be compressed.

    Examples
    --------
    >>> accepts_gzip({b"accept-encoding": b"br, gzip"})
    True
    >>> accepts_gzip({b"accept-encoding": b"gzip;q=0"})
    False
    """
    for part in headers.get(b"accept-encoding", b"").lower().split(b","):
        name, _, weight = part.strip().partition(b";")
        if name.strip() in {GZIP, b"*"}:
            return weight.replace(b" ", b"") not in {b"q=0", b"q=0.0", b"q=0.00", b"q=0.000"}
    return False


def inflate(content: bytes | bytearray, headers: Headers, largest_bytes: int) -> bytes:
    """Decompress a body if its head says so; no more of it than is allowed.

    Raises
    ------
    BodyTooLarge, BodyUnreadable
        See `read_json`.
    """
    if not is_gzip(headers):
        return content  # type: ignore[return-value]
    stream = zlib.decompressobj(_GZIP_WINDOW)
    try:
        plain = stream.decompress(content, largest_bytes + 1)
    except zlib.error as error:
        raise BodyUnreadable(f"The body is said to be gzip, and is not: {error}.") from error
    if len(plain) > largest_bytes:
        raise _too_large(largest_bytes)
    if not stream.eof or stream.unused_data:
        what = "goes on behind its end" if stream.eof else "ends early"
        raise BodyUnreadable(f"The gzip stream of the body {what}. Send one whole stream.")
    return plain


async def _read_parts(message: Any, receive: Receive, largest_bytes: int) -> bytearray:
    content = bytearray()  # grown in place: a list of parts would be held twice when joined
    while message["type"] != "http.disconnect":
        content += message.get("body", b"")
        if len(content) > largest_bytes:
            raise _too_large(largest_bytes)
        if not message.get("more_body", False):
            return content
        message = await receive()
    raise ClientDisconnect


def _too_large(largest_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body has more than {largest_bytes} bytes. Send less at once.")


def _word(value: bytes) -> str:
    return ascii(value[:60].decode("latin-1"))
