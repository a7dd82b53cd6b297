"""Answers to what never becomes a request: in the form of all others."""

from __future__ import annotations

from http import HTTPStatus

from pydantic_core import to_json

from serving.middleware.request_gate import CLOSE, SAFE

_REASONS = {400: "no_http", 408: "late", 431: "head", 503: "connections"}
_JSON = (b"content-type", b"application/json")


class Refused(Exception):
    """A connection is refused; the message is for the caller.

    Parameters
    ----------
    status
        Of the answer.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def reason(self) -> str:
        """The word by which it is counted."""
        return _REASONS[self.status]


def refusal_bytes(refused: Refused) -> bytes:
    """Write the answer; the connection ends with it."""
    body = to_json({"error": str(refused)})
    phrase = HTTPStatus(refused.status).phrase.encode()
    headers = [_JSON, (b"content-length", b"%d" % len(body)), *SAFE, CLOSE]
    if refused.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append((b"retry-after", b"1"))
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (refused.status, phrase, lines, body)
