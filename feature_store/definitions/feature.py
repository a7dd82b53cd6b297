"""What a feature is: its name, its kind, how its raw values are read and its stored ones shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from feature_store.definitions.cleaning import (
    FIRST_KNOWN,
    LARGEST_EXACT_INTEGER,
    LARGEST_NUMBER,
    Cleaning,
    strip,
)
from feature_store.errors import DefinitionError, InvalidValue

Kind = Literal["integer", "number", "category", "boolean"]
FeatureFunction = Callable[..., np.ndarray]

MOST_CATEGORIES = 2**15 - FIRST_KNOWN - 1
"""Codes are stored in 16 bits."""
VALUE_SHOWN = 60


@dataclass(frozen=True)
class FeatureDefinition:
    """One feature: a raw column (no function), or a function of other columns.

    Parameters
    ----------
    name
        The feature's name; a raw column's name in the source.
    kind
        ``integer`` (a whole number, exact up to 2**24), ``number``, ``category`` or ``boolean``
        (1, 0 or missing in the vector).
    description, unit
        For people; they do not change the fingerprint.
    categories
        The vocabulary of a category. Append only: codes are positions.
    valid_range
        Smallest and largest valid value, both included.
    inputs, function
        The columns that the function takes, in order, and the function.
    protected
        Whether it tells of a protected attribute; derived features inherit it.
    missing_marks
        Texts that stand for a missing value of a raw column, in any letter case; the empty text
        always does. They change how raw values are read and not what stored ones mean.
    tags
        Free labels, as Feast shows them.
    version
        Raise it when the function's meaning changes.
    is_cast
        Whether it is what a model takes of an exact column of the same name: rounded.
    rule
        How a windowed value is made: aggregation, window and so on, as short texts.
    array
        Name and size of the array that it is a place of, else None.
    open_to
        Of a category whose words are learned as they come, how many it may have at most;
        ``categories`` are those known so far then, which are no part of its meaning. None of a
        closed vocabulary.
    has_words
        Whether ``categories`` are what an open vocabulary has: a definition knows none of them,
        they are in the offline store.
    """

    name: str
    kind: Kind
    description: str
    unit: str = ""
    categories: tuple[str, ...] = ()
    valid_range: tuple[float, float] | None = None
    inputs: tuple[str, ...] = ()
    function: FeatureFunction | None = None
    protected: bool = False
    missing_marks: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    version: int = 1
    is_cast: bool = False
    rule: Mapping[str, str] = field(default_factory=dict)
    array: tuple[str, int] | None = None
    open_to: int | None = None
    has_words: bool = False

    def __post_init__(self) -> None:
        if self.open_to is not None:
            self._refuse_size(self.open_to)
        if (self.kind == "category") != bool(self.categories or self.open_to):
            raise DefinitionError(
                f"Feature '{self.name}' is a {self.kind} with {len(self.categories)} categories; "
                "a category names its vocabulary, a number has none."
            )
        largest = max(map(abs, self.valid_range or (0,)))
        if self.kind == "integer" and largest > LARGEST_EXACT_INTEGER:
            raise DefinitionError(
                f"Feature '{self.name}' ranges over {self.valid_range}; float32 holds whole "
                f"numbers exactly up to {LARGEST_EXACT_INTEGER}, and as a number it would lose "
                "digits, too. Narrow the range, or count in larger units."
            )
        if len(self.categories) > MOST_CATEGORIES and self.open_to is None:
            raise DefinitionError(
                f"Feature '{self.name}' has {len(self.categories):,} categories; at most "
                f"{MOST_CATEGORIES:,} can be told apart. Group the rare ones."
            )
        if self.cleaning.problem is not None and self.open_to is None:
            raise DefinitionError(
                f"Feature '{self.name}' cannot be read: {self.cleaning.problem}. Change the "
                "vocabulary, or the marks."
            )

    def _refuse_size(self, most: int) -> None:
        if not 1 <= most <= MOST_CATEGORIES or self.kind != "category":
            raise DefinitionError(
                f"Feature '{self.name}' has an open vocabulary of {most:,} words at most; expected "
                f"1 to {MOST_CATEGORIES:,}, and neither categories nor another kind beside it."
            )

    def with_words(self, words: Sequence[str]) -> FeatureDefinition:
        """The same feature with the words that its open vocabulary has by now."""
        return replace(self, categories=tuple(words), has_words=True)

    def require_words(self) -> None:
        """Raise unless it is known which words the vocabulary has.

        Raises
        ------
        DefinitionError
            If it is open, and nobody has looked: every word would be unseen.
        """
        if self.open_to is not None and not self.has_words:
            raise DefinitionError(
                f"The vocabulary of '{self.name}' is open, and its words are in the offline store: "
                "take the view from there (`OfflineStore.vocabularies.view`)."
            )

    @property
    def is_raw(self) -> bool:
        """Whether the value comes from the source (or the request) and not from a function."""
        return self.function is None

    @property
    def limits(self) -> tuple[float, float]:
        """Smallest and largest value: the valid range, else what can be held to the digit."""
        if self.kind == "boolean":
            return 0, 1
        if self.valid_range is not None:
            return self.valid_range
        largest = LARGEST_EXACT_INTEGER if self.kind == "integer" else LARGEST_NUMBER
        return -largest, largest

    @cached_property
    def cleaning(self) -> Cleaning:
        """How raw values are read, in whatever way they come in."""
        return Cleaning(self.categories, self.missing_marks)

    @property
    def codes(self) -> Mapping[str, int]:
        """The vocabulary as a mapping from word to code."""
        return self.cleaning.codes

    @property
    def codes_end(self) -> int:
        """The first code that no word of the vocabulary has, or can have."""
        return FIRST_KNOWN + (self.open_to or len(self.categories))

    @property
    def meaning(self) -> dict[str, Any]:
        """Everything that decides what a stored value means."""
        return {
            "name": self.name,
            "kind": self.kind,
            "version": self.version,
            "categories": () if self.open_to else self.categories,
            "valid_range": self.valid_range,
            "inputs": self.inputs,
            **({"is_cast": True} if self.is_cast else {}),
            **({"array": self.array} if self.array else {}),
            **({"open_to": self.open_to} if self.open_to else {}),
            **self.rule,
        }

    @classmethod
    def from_meaning(cls, meaning: Mapping[str, Any]) -> FeatureDefinition:
        """A stored definition, without its function: enough to decode and check stored values."""
        limits, array = meaning["valid_range"], meaning.get("array")
        fixed = {*cls("", "number", "").meaning, "is_cast", "array", "open_to"}
        return cls(
            name=meaning["name"],
            kind=meaning["kind"],
            description="",
            version=meaning["version"],
            categories=tuple(meaning["categories"]),
            valid_range=None if limits is None else (limits[0], limits[1]),
            inputs=tuple(meaning["inputs"]),
            is_cast=meaning.get("is_cast", False),
            rule={fact: value for fact, value in meaning.items() if fact not in fixed},
            array=None if array is None else (array[0], array[1]),
            open_to=meaning.get("open_to"),
        )

    def encode(self, value: object) -> float:
        """Give the number or code that stands for a raw value; see `Cleaning`.

        Whether a number is in the valid range is not looked at.

        Raises
        ------
        InvalidValue
            If it is no number where one is expected, or none that a float32 can hold.

        Examples
        --------
        >>> sex = FeatureDefinition("sex", "category", "", categories=("Female", "Male"))
        >>> sex.encode("Male"), sex.encode(" male "), sex.encode("both"), sex.encode(None)
        (3, 3, 1, 0)
        """
        if self.kind == "category":
            self.require_words()
            return self.cleaning.code(value)
        is_boolean = self.kind == "boolean"
        try:
            return self.cleaning.truth(value) if is_boolean else self.cleaning.number(value)
        except (ValueError, TypeError, OverflowError):
            expected = "true or false" if is_boolean else "a number"
            raise self._invalid(value, expected) from None

    def refuse(self, value: object) -> None:
        """Raise when a typed raw value cannot be used: one of JSON, of an event, of a request.

        A word that nobody defined can be: it is unseen. A text that is a number is none here: who
        can write numbers is asked for one.

        Raises
        ------
        InvalidValue
            Saying what arrived and what was expected.
        """
        if value is None:
            return
        if self.kind == "category":
            if not isinstance(value, str):
                raise self._invalid(value, "a word, or null")
            return
        if self.kind == "boolean":
            is_mark = isinstance(value, str) and self.cleaning.is_mark(strip(value))
            if not isinstance(value, bool | np.bool_) and not is_mark:
                raise self._invalid(value, "true or false, or null")
            return
        low, high = self.limits
        unit = f" {self.unit}" if self.unit else ""
        expected = f"{low:,.10g} to {high:,.10g}{unit}, or null"
        try:
            number = self.cleaning.number(value)
        except (ValueError, TypeError, OverflowError):
            raise self._invalid(value, f"{expected}, as a number") from None
        if value != value or (isinstance(value, str) and number == number):
            raise self._invalid(value, f"{expected}, as a number")
        if number == number and not low <= number <= high:
            raise self._invalid(value, expected)
        if self.kind == "integer" and number == number and number % 1 != 0:
            raise self._invalid(value, "a whole number")

    def _invalid(self, value: object, expected: str) -> InvalidValue:
        text = str(value).encode("utf-8", "backslashreplace").decode()
        shown = text if len(text) <= VALUE_SHOWN else f"{text[:VALUE_SHOWN]}…"
        return InvalidValue(f"{self.name} is '{shown}', expected {expected}")

    def decode(self, value: float) -> int | float | str | bool | None:
        """Give the stored float32 back as people know it: a word, a whole number, or None.

        Examples
        --------
        >>> FeatureDefinition("sex", "category", "", categories=("Female", "Male")).decode(3.0)
        'Male'
        """
        if self.kind == "category":
            place = int(value) - FIRST_KNOWN
            if place < 0:
                return None
            self.require_words()
            # A word that an open vocabulary has learned since is unseen to this one.
            return self.categories[place] if place < len(self.categories) else None
        if math.isnan(value):
            return None
        if self.kind == "boolean":
            return bool(value)
        return int(value) if self.kind == "integer" else float(value)
