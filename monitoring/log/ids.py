"""Identifiers of predictions: unique without asking anybody, and ordered by time."""

from __future__ import annotations

import os
import struct
import threading

_VERSION_7 = 0x7 << 12
_VARIANT = 0b10 << 62
_RANDOM_BITS = (1 << 62) - 1


def new_prediction_id(time_us: int) -> bytes:
    """Make a UUIDv7 (RFC 9562) of 16 bytes from a time in microseconds since 1970.

    The 12 bits after the milliseconds hold the fraction of a millisecond (method 3 of section
    6.2), so that ids of one process sort by microsecond; 62 random bits follow.

    Examples
    --------
    >>> from uuid import UUID
    >>> first, second = (UUID(bytes=new_prediction_id(t)) for t in (1_700_000_000_000_000,) * 2)
    >>> first.version, first != second, str(first)[:13]
    (7, True, '018bcfe5-6800')
    """
    return new_prediction_ids(time_us, 1)[0]


def new_prediction_ids(time_us: int, n: int) -> list[bytes]:
    """Make ``n`` ids of one time, all different."""
    milliseconds, microseconds = divmod(time_us, 1000)
    fraction = microseconds * 4096 // 1000
    time = ((milliseconds << 16) | _VERSION_7 | fraction).to_bytes(8, "big")
    random = struct.unpack(f">{n}Q", _random_bytes(8 * n))
    return [time + (_VARIANT | (each & _RANDOM_BITS)).to_bytes(8, "big") for each in random]


_random = bytearray()
_guard = threading.Lock()


def _random_bytes(n: int) -> bytes:
    """Take bytes from the operating system's source, a page of them at a time."""
    with _guard:
        if len(_random) < n:
            _random.extend(os.urandom(max(n, 4096)))
        taken = bytes(_random[-n:])
        del _random[-n:]
        return taken


os.register_at_fork(after_in_child=_random.clear)  # or two processes would make equal ids


def as_text(prediction_id: bytes) -> str:
    """Write an id as people do.

    Examples
    --------
    >>> as_text(bytes(range(16)))
    '00010203-0405-0607-0809-0a0b0c0d0e0f'
    """
    digits = prediction_id.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def time_us_of(prediction_id: bytes) -> int:
    """Read the time out of what `new_prediction_id` gave, in microseconds since 1970.

    Examples
    --------
    >>> time_us_of(new_prediction_id(1_700_000_000_123_456))
    1700000000123456
    """
    whole = int.from_bytes(prediction_id, "big")
    milliseconds, fraction = whole >> 80, (whole >> 64) & 0xFFF
    return milliseconds * 1000 + -(-fraction * 1000 // 4096)  # rounded up: it was rounded down
