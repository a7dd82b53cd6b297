"""The one cleaning of raw values: what a value of a raw column means, in whatever way it came in.

A text loses the white space around it. An empty one, and each mark that the definition names
(``?``, ``n/a``), is missing. A word is found in its vocabulary as it stands; else without regard to
letter case, where that says which word is meant. A whole number may carry a fraction of zero, as
pandas and Spark write it: 39.0 is 39. A word that nobody defined stays unseen.
"""

from __future__ import annotations

import math
import operator
import re
import struct
from collections import Counter
from collections.abc import Collection, Sequence
from decimal import Decimal
from functools import cached_property
from typing import Any

WHITE_SPACE = (
    " \t\n\v\f\r\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
"""What is taken off both ends of a text: Unicode's White_Space, and the byte order mark."""
WHOLE_WITH_FRACTION = r"^([+-]?[0-9]+)\.0+$"
"""A whole number as pandas and Spark write it where others of its column are missing."""
LARGEST_WHOLE = 2**53
"""Above it a float64 no longer holds every whole number: a key may be another one."""
LARGEST_NUMBER = 3.4028234663852886e38
"""The largest float32: beyond it, either way, a number cannot be held."""
TRUTHS = {
    **dict.fromkeys(("true", "t", "yes", "y", "1", "1.0"), 1.0),
    **dict.fromkeys(("false", "f", "no", "n", "0", "0.0"), 0.0),
}
"""What texts say of a column that is true or false, in lower case."""
LARGEST_EXACT_INTEGER = 2**24
"""Above it float32 no longer holds every whole number."""
MISSING, UNSEEN, FIRST_KNOWN = 0, 1, 2
"""Codes of a category: missing, not in the vocabulary, first word of the vocabulary."""


class Cleaning:
    """How the values of one raw column are read.

    Parameters
    ----------
    categories
        The vocabulary of a category; empty for a number.
    marks
        Texts that stand for a missing value, in any letter case; the empty text always does.

    Examples
    --------
    >>> sex = Cleaning(("Female", "Male"), marks=("?",))
    >>> sex.code(" Male"), sex.code("male"), sex.code(" ?"), sex.code("M")
    (3, 3, 0, 1)
    >>> age = Cleaning((), marks=("?", "-1"))
    >>> age.number(39.0), age.number(" 39 "), age.number("?"), age.number(-1)
    (39.0, 39.0, nan, nan)
    """

    def __init__(self, categories: Sequence[str], marks: Collection[str]) -> None:
        self.codes = {word: FIRST_KNOWN + place for place, word in enumerate(categories)}
        self.marks = frozenset(strip(mark).lower() for mark in marks) | {""}

    @cached_property
    def mark_numbers(self) -> frozenset[float]:
        """The marks that are numbers: these are missing where a number comes typed, too."""
        numbers = [_float_or_nan(mark) for mark in self.marks]
        return frozenset(number for number in numbers if number == number)

    @cached_property
    def problem(self) -> str | None:
        """Why no value could ever be read as it is meant, if so."""
        for word in self.codes:
            if strip(word) != word:
                return f"the category '{word}' has white space around it, which values lose"
            if self.is_mark(word):
                return f"the category '{word}' is a mark of missing values, too"
        return None

    def code(self, value: object) -> int:
        """Give the code of a category's value; None is missing, an unknown word is unseen."""
        if value is None or value != value:
            return MISSING
        word = as_word(value)
        code = self.codes.get(word)
        if code is not None:
            return code
        if self.is_mark(word):
            return MISSING
        return self._by_folded.get(word.casefold(), UNSEEN)

    def number(self, value: object) -> float:
        """Give a number; None and marks are NaN.

        Raises
        ------
        ValueError
            If the value is no number, or none that a float32 can hold: too large, or a whole
            number that would become another one.
        """
        if value is None:
            return math.nan
        if isinstance(value, str):
            text = strip(value)
            number = math.nan if self.is_mark(text) else float(text)
            if number != number and not self.is_mark(text):
                raise ValueError(value)  # "nan" is no number that anybody measured
        elif isinstance(value, bool):
            raise ValueError(value)
        else:
            number = float(value)  # type: ignore[arg-type]
        if abs(number) > LARGEST_EXACT_INTEGER and (
            abs(number) > LARGEST_NUMBER or becomes_another(value)
        ):
            raise ValueError(value)
        return math.nan if number in self.mark_numbers else number

    def truth(self, value: object) -> float:
        """Give 1 for what is true, 0 for what is false, NaN for None and marks.

        Raises
        ------
        ValueError
            If it is neither.

        Examples
        --------
        >>> flag = Cleaning((), ())
        >>> flag.truth(True), flag.truth(" No"), flag.truth(1), flag.truth("")
        (1.0, 0.0, 1.0, nan)
        """
        if value is None or value != value:
            return math.nan
        if isinstance(value, str):
            text = strip(value).lower()
            if self.is_mark(text):
                return math.nan
            if text not in TRUTHS:
                raise ValueError(value)
            return TRUTHS[text]
        if value not in (0, 1):
            raise ValueError(value)
        return float(value)

    def is_mark(self, text: str) -> bool:
        """Tell whether a stripped text stands for a missing value."""
        return text.lower() in self.marks

    @cached_property
    def _by_folded(self) -> dict[str, int]:
        """Codes by words without letter case, where one word alone has that form."""
        folded = [word.casefold() for word in self.codes]
        times = Counter(folded)
        return {
            form: code
            for form, code in zip(folded, self.codes.values(), strict=True)
            if times[form] == 1
        }


def becomes_another(value: Any) -> bool:
    """Tell whether a whole number, typed or a text, would be another one as a float32.

    Of fractions the digits after the seventh are rounded. So are those of a float above 2**53, also
    one that is written: with a point or an exponent. That far floats tell no whole numbers apart.

    Examples
    --------
    >>> becomes_another(16_777_217.0), becomes_another(1e10), becomes_another(0.1)
    (True, False, False)
    >>> becomes_another(2**53 + 1), becomes_another("9007199254740993"), becomes_another(6.02e23)
    (True, True, False)
    """
    whole = _as_whole(value)
    if whole is None or not LARGEST_EXACT_INTEGER < abs(whole) <= LARGEST_NUMBER:
        return False
    [as_float32] = struct.unpack("<f", struct.pack("<f", whole))
    return int(as_float32) != whole


def strip(text: str) -> str:
    """Take the white space off both ends of a text."""
    return text.strip(WHITE_SPACE)


def as_word(value: object) -> str:
    """A value as a word: a text is stripped, and pandas makes 2.0 of the category 2."""
    if isinstance(value, str):
        return strip(value)
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _as_whole(value: Any) -> int | None:
    """A value as the whole number that it is to the digit; None if it is none."""
    if isinstance(value, str):
        text = strip(value)
        value = int(text) if re.fullmatch("[+-]?[0-9]+", text) else float(text)
    if hasattr(value, "__index__"):
        return operator.index(value)
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else None
    number = float(value)
    return int(number) if abs(number) <= LARGEST_WHOLE and number % 1 == 0 else None


def _float_or_nan(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
