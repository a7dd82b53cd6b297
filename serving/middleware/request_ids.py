"""The id by which a request is found again in the log: the caller's, or one of ours."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from itertools import count

SANE = re.compile(rb"[A-Za-z0-9._-]{1,64}")
"""What is taken from a caller: nothing that could forge a line or a header."""

current: ContextVar[bytes | None] = ContextVar("request_id", default=None)
"""The id of the request that is being answered here."""

_process = secrets.token_hex(6).encode()
_numbers = count(1)


def new_request_id() -> bytes:
    """Make an id that no other request of any process has."""
    return b"%b-%x" % (_process, next(_numbers))


def request_id(given: bytes) -> bytes:
    r"""Give the caller's id if it is sane, else a new one.

    Examples
    --------
    >>> request_id(b"order-42")
    b'order-42'
    >>> request_id(b"a\nb") == b"a\nb"
    False
    """
    if SANE.fullmatch(given):
        return given
    return new_request_id()
