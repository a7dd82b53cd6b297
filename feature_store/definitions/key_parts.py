"""The columns of a key: what a value of one is, alone and many at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from feature_store.definitions.cleaning import LARGEST_WHOLE, WHOLE_WITH_FRACTION, strip
from feature_store.errors import InvalidValue

PartType = Literal["integer", "string"]

LARGEST_KEY = 2**63 - 1
"""A whole number lies between this and its negative."""
LONGEST_KEY = 128
"""In characters, of a key as one text: it is a unit of experiments, and stands in receipts."""
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_SHOWN = 60


@dataclass(frozen=True)
class KeyPart:
    """One column of a key."""

    name: str
    type: PartType

    @property
    def expected(self) -> str:
        """What a value must be, for messages."""
        if self.type == "integer":
            return "a whole number of at most 64 bits"
        return f"a text of 1 to {LONGEST_KEY} characters"

    def read(self, value: object) -> int | str:
        """Give a value of the part's type; texts lose the white space around them.

        Raises
        ------
        InvalidValue
            If it is of another type, missing or too long.
        """
        try:
            return whole_number(value) if self.type == "integer" else _text(value)
        except (ValueError, TypeError, OverflowError):
            raise InvalidValue(f"{self.name} is {shown(value)}, expected {self.expected}") from None


def plain_texts(parts: Sequence[KeyPart], values: Sequence[object]) -> list[str] | None:
    """The texts of many keys, all at once where none needs reading; None where one may.

    Examples
    --------
    >>> plain_texts([KeyPart("origin", "string"), KeyPart("gate", "integer")], [("JFK", 7)])
    ['["JFK",7]']
    >>> plain_texts([KeyPart("origin", "string")], [" JFK"]) is None
    True
    """
    if len(parts) == 1:
        is_plain = parts[0].type == "string" and _are_plain(values)
        return list(values) if is_plain else None  # type: ignore[arg-type]
    if not all(type(value) is tuple and len(value) == len(parts) for value in values):
        return None
    columns = zip(*values, strict=True)
    written = [_written(part, column) for part, column in zip(parts, columns, strict=False)]
    if None in written:
        return None
    texts = [f"[{','.join(row)}]" for row in zip(*written, strict=True)]
    return texts if max(map(len, texts), default=0) <= LONGEST_KEY else None


def _written(part: KeyPart, column: Sequence[object]) -> list[str] | None:
    """A column as JSON has it; None if a value needs reading, or escaping."""
    if part.type == "integer":
        is_plain = all(type(each) is int and abs(each) <= LARGEST_KEY for each in column)
        return list(map(str, column)) if is_plain else None
    is_plain = _are_plain(column) and not any('"' in t or "\\" in t for t in column)  # type: ignore[operator]
    return [f'"{text}"' for text in column] if is_plain else None


def whole_number(value: object) -> int:
    """A value, typed or a text, as a whole number of 64 bits.

    Raises
    ------
    ValueError, TypeError, OverflowError
        If it is none, or a float so large that it may stand for another one.
    """
    if isinstance(value, bool) or value is None:
        raise ValueError(value)
    if isinstance(value, str):
        return _of_64_bits(int(re.sub(WHOLE_WITH_FRACTION, r"\1", strip(value))))
    whole = int(value)  # type: ignore[call-overload]
    if whole != value or (not isinstance(value, int | np.integer) and abs(whole) >= LARGEST_WHOLE):
        raise ValueError(value)
    return _of_64_bits(whole)


def _of_64_bits(whole: int) -> int:
    if not -LARGEST_KEY <= whole <= LARGEST_KEY:
        raise ValueError(whole)
    return whole


def _are_plain(values: Sequence[object]) -> bool:
    """Whether all are texts that need no reading: short, of printable ASCII, without spaces."""
    try:
        together = "".join(values)  # type: ignore[arg-type]
    except TypeError:
        return False
    is_plain = together.isascii() and together.isprintable() and " " not in together
    return is_plain and all(values) and max(map(len, values), default=1) <= LONGEST_KEY  # type: ignore[arg-type]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(value)
    text = strip(value)
    text.encode()  # no halves of characters
    if not 0 < len(text) <= LONGEST_KEY or _CONTROLS.search(text):
        raise ValueError(value)
    return text


def shown(value: object) -> str:
    """A value as messages show it."""
    if value is None:
        return "missing"
    text = str(value).encode("utf-8", "backslashreplace").decode()
    return f"'{text if len(text) <= _SHOWN else text[:_SHOWN] + '…'}'"
