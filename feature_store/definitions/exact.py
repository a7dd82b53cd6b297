"""Columns that are stored to the digit, beside the float32 vector: for lookup, not for models.

A model takes a float32 vector, which holds no whole number above 2**24 to the digit, no text and no
time. What has to come back as it went in is an exact column: it is stored in its own type in
PostgreSQL, and behind the vector in the online row.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.cleaning import LARGEST_NUMBER, Cleaning, strip
from feature_store.definitions.entity import whole_number
from feature_store.errors import InvalidValue, SchemaMismatch

ExactType = Literal["int64", "float64", "string", "timestamp"]
ExactValue = int | float | str | datetime | None
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
LONGEST_TEXT = 10_000
"""In characters."""
_SHOWN = 60

EXPECTED: Mapping[ExactType, str] = {
    "int64": "a whole number of at most 64 bits",
    "float64": "a number",
    "string": f"a text of at most {LONGEST_TEXT:,} characters",
    "timestamp": "a time such as 2026-01-05T10:00:00Z",
}


@dataclass(frozen=True)
class ExactColumn:
    """One column that is stored to the digit.

    Parameters
    ----------
    name, type
        What it is called, and of what type it is.
    description, unit
        For people; they do not change the fingerprint.
    protected
        Whether it tells of a protected attribute.
    missing_marks
        Texts that stand for a missing value, in any letter case; the empty text always does.
    tags
        Free labels, as Feast shows them.

    Examples
    --------
    >>> ExactColumn("account", "int64", "").read("9007199254740993")
    9007199254740993
    >>> ExactColumn("opened", "timestamp", "").read("2026-01-05T12:00:00+02:00").isoformat()
    '2026-01-05T10:00:00+00:00'
    """

    name: str
    type: ExactType
    description: str
    unit: str = ""
    protected: bool = False
    missing_marks: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def meaning(self) -> dict[str, str]:
        """What decides what a stored value means."""
        return {"name": self.name, "exact": self.type}

    @classmethod
    def from_meaning(cls, meaning: Mapping[str, Any]) -> ExactColumn:
        """A stored definition: enough to read stored values."""
        return cls(meaning["name"], meaning["exact"], "")

    @cached_property
    def cleaning(self) -> Cleaning:
        """Which texts stand for a missing value."""
        return Cleaning((), self.missing_marks)

    def read(self, value: object) -> ExactValue:
        """Give a raw value in the column's type; missing ones are None.

        Raises
        ------
        InvalidValue
            If it is of another type; the message says what arrived and what was expected.
        """
        if value is None or value != value:
            return None
        if isinstance(value, str):
            value = strip(value)
            if self.cleaning.is_mark(value):
                return None
        elif type(value) in (int, float) and value in self.cleaning.mark_numbers:
            return None
        try:
            return _READERS[self.type](value)
        except (ValueError, TypeError, OverflowError):
            text = str(value).encode("utf-8", "backslashreplace").decode()
            shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
            raise InvalidValue(
                f"{self.name} is '{shown}', expected {EXPECTED[self.type]}"
            ) from None

    def refuse(self, value: object) -> None:
        """Raise when a typed raw value cannot be used: one of JSON, of an event.

        A whole number may be written as a text, since the numbers of many programs end at 2**53.

        Raises
        ------
        InvalidValue
            Saying what arrived and what was expected.
        """
        number = self.read(value)
        if isinstance(number, float) and (isinstance(value, str) or abs(number) > LARGEST_NUMBER):
            limits = f"{-LARGEST_NUMBER:,.10g} to {LARGEST_NUMBER:,.10g}"
            raise InvalidValue(f"{self.name} is '{value}', expected {limits}, as a number")


def moments(values: Sequence[ExactValue]) -> NDArray[np.datetime64]:
    """Timestamps as datetime64[us] ``(n,)`` in UTC; NaT is missing.

    Examples
    --------
    >>> moments([EPOCH.replace(year=2026), None]).astype(str).tolist()
    ['2026-01-01T00:00:00.000000', 'NaT']
    """
    naive = [
        value.replace(tzinfo=None) if isinstance(value, datetime) else None for value in values
    ]
    return np.array(naive, dtype="datetime64[us]")


class ExactCodec:
    r"""Packs the exact values of a row behind its vector.

    First a bit a column that says whether there is a value, then the values in the order of the
    columns: 8 bytes each, a text as its length in 4 bytes and UTF-8.

    Examples
    --------
    >>> codec = ExactCodec([ExactColumn("id", "int64", ""), ExactColumn("nick", "string", "")])
    >>> codec.pack([7, None])
    b'\x01\x07\x00\x00\x00\x00\x00\x00\x00'
    >>> codec.unpack(codec.pack([None, "Ü"]))
    (None, 'Ü')
    """

    def __init__(self, columns: Sequence[ExactColumn]) -> None:
        self.columns = tuple(columns)
        self.bitmap_bytes = (len(self.columns) + 7) // 8

    def pack(self, values: Sequence[ExactValue]) -> bytes:
        """The bytes of a row's values, one a column."""
        present, parts = 0, [b""]
        for place, (column, value) in enumerate(zip(self.columns, values, strict=True)):
            if value is not None:
                present |= 1 << place
                parts.append(_PACKERS[column.type](value))
        parts[0] = present.to_bytes(self.bitmap_bytes, "little")
        return b"".join(parts)

    def unpack(self, packed: bytes) -> tuple[ExactValue, ...]:
        """The values that `pack` packed.

        Raises
        ------
        SchemaMismatch
            If the bytes are of other columns.
        """
        try:
            values, end = self._unpacked(packed)
        except (struct.error, UnicodeDecodeError, OverflowError) as error:
            raise SchemaMismatch(
                f"An online row's exact values cannot be read: {error}."
            ) from error
        if end != len(packed):
            raise SchemaMismatch(
                f"An online row has {len(packed)} bytes of exact values; {end} were expected."
            )
        return values

    def _unpacked(self, packed: bytes) -> tuple[tuple[ExactValue, ...], int]:
        if len(packed) < self.bitmap_bytes:
            raise struct.error(f"{len(packed)} bytes")
        present, at = int.from_bytes(packed[: self.bitmap_bytes], "little"), self.bitmap_bytes
        values: list[ExactValue] = []
        for place, column in enumerate(self.columns):
            if not present >> place & 1:
                values.append(None)
            elif column.type == "string":
                [size] = _SIZE.unpack_from(packed, at)
                text = packed[at + 4 : at + 4 + size]
                values.append(text.decode())
                at += 4 + size
            else:
                values.append(_UNPACKERS[column.type](packed, at))
                at += 8
        return tuple(values), at


def _float64(value: object) -> float:
    if isinstance(value, bool):
        raise ValueError(value)
    number = float(value)  # type: ignore[arg-type]
    if number != number or number in (float("inf"), -float("inf")):
        raise ValueError(value)
    return number


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or "\0" in value:
        raise ValueError(value)
    value.encode()  # no halves of characters
    return value


def _timestamp(value: object) -> datetime:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(moment, datetime):
        raise ValueError(value)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment if type(moment) is datetime else datetime.fromisoformat(moment.isoformat())


_READERS: Mapping[ExactType, Callable[[object], ExactValue]] = {
    "int64": whole_number,
    "float64": _float64,
    "string": _text,
    "timestamp": _timestamp,
}
_SIZE, _INT64, _FLOAT64 = struct.Struct("<I"), struct.Struct("<q"), struct.Struct("<d")


def _packed_text(value: Any) -> bytes:
    encoded: bytes = value.encode()
    return _SIZE.pack(len(encoded)) + encoded


_PACKERS: Mapping[ExactType, Callable[[Any], bytes]] = {
    "int64": _INT64.pack,
    "float64": _FLOAT64.pack,
    "string": _packed_text,
    "timestamp": lambda moment: _INT64.pack((moment - EPOCH) // MICROSECOND),
}
_UNPACKERS: Mapping[ExactType, Callable[[bytes, int], ExactValue]] = {
    "int64": lambda packed, at: _INT64.unpack_from(packed, at)[0],
    "float64": lambda packed, at: _FLOAT64.unpack_from(packed, at)[0],
    "timestamp": lambda packed, at: EPOCH + _INT64.unpack_from(packed, at)[0] * MICROSECOND,
}
