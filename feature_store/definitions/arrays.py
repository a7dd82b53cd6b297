"""Arrays of a fixed length, such as embeddings: one column outside, many numbers inside.

A source, an event, a request and a reader know an array as one column that holds a list. A model
takes a vector of numbers: there each place of the list is a feature of its own, ``face_0`` to
``face_511``, so that all that is true of a number is true of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from feature_store.definitions.cleaning import (
    LARGEST_NUMBER,
    Cleaning,
    becomes_another,
    strip,
)
from feature_store.errors import DefinitionError, InvalidValue

_SHOWN = 60


@dataclass(frozen=True)
class ArrayColumn:
    """A raw column that holds lists of so many float32 numbers.

    Parameters
    ----------
    name, size
        What it is called, and how many numbers each list has, at least 1.
    description, unit
        For people.
    protected
        Whether it tells of a protected attribute.
    missing_marks
        Texts that stand for a missing list, in any letter case; the empty text always does.
    tags
        Free labels, as Feast shows them.

    Examples
    --------
    >>> face = ArrayColumn("face", 2, "What the camera saw.")
    >>> face.members
    ('face_0', 'face_1')
    >>> face.read([0.5, 1]), face.read("[0.5, 1]"), face.read(None)
    ((0.5, 1.0), (0.5, 1.0), None)
    """

    name: str
    size: int
    description: str
    unit: str = ""
    protected: bool = False
    missing_marks: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise DefinitionError(
                f"Array '{self.name}' has the size {self.size!r}; expected how many numbers each "
                "of its lists has."
            )

    @cached_property
    def members(self) -> tuple[str, ...]:
        """Names of the features that its places are."""
        return tuple(f"{self.name}_{place}" for place in range(self.size))

    @property
    def expected(self) -> str:
        """What its values look like."""
        return f"a list of {self.size} numbers"

    @cached_property
    def cleaning(self) -> Cleaning:
        """Which texts stand for a missing list."""
        return Cleaning((), self.missing_marks)

    def read(self, value: object) -> tuple[float, ...] | None:
        """Give a raw value as numbers, a text being JSON; a missing list is None.

        Raises
        ------
        InvalidValue
            If it is no such list: of another length, or with a number that is missing, infinite or
            a whole one that a float32 does not hold.
        """
        if isinstance(value, str):
            text = strip(value)
            if self.cleaning.is_mark(text):
                return None
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                raise self._invalid(text) from None
        elif hasattr(value, "tolist"):
            value = value.tolist()
        if value is None:
            return None
        if not isinstance(value, list | tuple) or len(value) != self.size:
            raise self._invalid(value)
        for place, number in enumerate(value):
            self._refuse_number(place, number)
        return tuple(map(float, value))

    def refuse(self, value: object) -> None:
        """Raise when a typed raw value cannot be used: one of JSON, of an event, of a request.

        Raises
        ------
        InvalidValue
            Saying what arrived and what was expected; a list written as a text is none here.
        """
        if isinstance(value, str) and not self.cleaning.is_mark(strip(value)):
            raise self._invalid(value)
        self.read(value)

    def _refuse_number(self, place: int, number: object) -> None:
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if not is_number or not abs(number) <= LARGEST_NUMBER or becomes_another(number):  # type: ignore[arg-type]
            shown = str(number)[:_SHOWN]
            raise InvalidValue(
                f"{self.name}[{place}] is '{shown}', expected a number that a float32 holds"
            )

    def _invalid(self, value: object) -> InvalidValue:
        if isinstance(value, list | tuple):
            return InvalidValue(
                f"{self.name} is a list of {len(value)}, expected {self.expected}, or null"
            )
        text = str(value).encode("utf-8", "backslashreplace").decode()
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
        return InvalidValue(f"{self.name} is '{shown}', expected {self.expected}, or null")


def spread(attributes: Mapping[str, Any], arrays: Mapping[str, ArrayColumn]) -> Mapping[str, Any]:
    """Raw attributes by name, with the places of arrays in place of their lists.

    Raises
    ------
    InvalidValue
        If what stands for an array is no such list.

    Examples
    --------
    >>> spread({"age": 3, "face": [1, 2]}, {"face": ArrayColumn("face", 2, "")})
    {'age': 3, 'face_0': 1.0, 'face_1': 2.0}
    """
    if arrays.keys().isdisjoint(attributes):
        return attributes
    flat: dict[str, Any] = {}
    for name, value in attributes.items():
        array = arrays.get(name)
        if array is None:
            flat[name] = value
        else:
            numbers: Iterable[float | None] = array.read(value) or (None,) * array.size
            flat |= dict(zip(array.members, numbers, strict=True))
    return flat


def gather(values: Sequence[float]) -> list[float] | None:
    """The numbers of an array's places as a list; None where they are missing.

    Examples
    --------
    >>> gather([0.5, 1.0]), gather([math.nan, math.nan])
    ([0.5, 1.0], None)
    """
    return None if math.isnan(values[0]) else list(values)
