"""What a feature is, and a schema of many: the one definition from which all else is derived."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from configs.errors import did_you_mean
from feature_store.definitions.cleaning import (
    FIRST_KNOWN,
    LARGEST_EXACT_INTEGER,
    LARGEST_NUMBER,
    MISSING,
    UNSEEN,
    Cleaning,
    strip,
)
from feature_store.definitions.entity import KEY, Entity
from feature_store.definitions.exact import ExactColumn, ExactValue
from feature_store.errors import DefinitionError, InvalidValue, UnknownFeature

__all__ = [
    "FIRST_KNOWN",
    "LARGEST_EXACT_INTEGER",
    "MISSING",
    "UNSEEN",
    "FeatureDefinition",
    "FeatureFunction",
    "FeatureSchema",
    "Kind",
]

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

    def __post_init__(self) -> None:
        if (self.kind == "category") != bool(self.categories):
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
        if len(self.categories) > MOST_CATEGORIES:
            raise DefinitionError(
                f"Feature '{self.name}' has {len(self.categories):,} categories; at most "
                f"{MOST_CATEGORIES:,} can be told apart. Group the rare ones."
            )
        if self.cleaning.problem is not None:
            raise DefinitionError(
                f"Feature '{self.name}' cannot be read: {self.cleaning.problem}. Change the "
                "vocabulary, or the marks."
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
    def meaning(self) -> dict[str, Any]:
        """Everything that decides what a stored value means."""
        return {
            "name": self.name,
            "kind": self.kind,
            "version": self.version,
            "categories": self.categories,
            "valid_range": self.valid_range,
            "inputs": self.inputs,
            **({"is_cast": True} if self.is_cast else {}),
            **self.rule,
        }

    @classmethod
    def from_meaning(cls, meaning: Mapping[str, Any]) -> FeatureDefinition:
        """A stored definition, without its function: enough to decode and check stored values."""
        limits = meaning["valid_range"]
        fixed = {**cls("", "number", "").meaning, "is_cast": True}
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
            code = int(value)
            return self.categories[code - FIRST_KNOWN] if code >= FIRST_KNOWN else None
        if math.isnan(value):
            return None
        if self.kind == "boolean":
            return bool(value)
        return int(value) if self.kind == "integer" else float(value)


@dataclass(frozen=True)
class FeatureSchema:
    """Names and kinds of a view's features in the order of its vectors, with a fingerprint.

    The fingerprint (16 hex characters) covers everything that decides what a stored value means:
    names, order, kinds, versions, vocabularies, ranges and inputs, and the key where it is not a
    whole number.

    Parameters
    ----------
    view, features
        The view's name, and its features in the order of the vector.
    whole
        The schema that the features were selected from, or None.
    key
        What the features are about where its key is no whole number, else None.
    exact
        Columns that are stored to the digit beside the vector.
    """

    view: str
    features: tuple[FeatureDefinition, ...]
    whole: FeatureSchema | None = None
    key: Entity | None = None
    exact: tuple[ExactColumn, ...] = ()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Feature names, in the order of the vector."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def positions(self) -> Mapping[str, int]:
        """Feature name to place in the vector."""
        return {name: place for place, name in enumerate(self.names)}

    @cached_property
    def fingerprint(self) -> str:
        """First 16 hex characters of the SHA-256 of the features' meaning."""
        meaning = [self.view, *self.meaning]
        return hashlib.sha256(json.dumps(meaning).encode()).hexdigest()[:16]

    @property
    def definition_fingerprint(self) -> str:
        """Fingerprint of the whole view that these features were selected from."""
        return self.fingerprint if self.whole is None else self.whole.fingerprint

    @classmethod
    def from_meaning(cls, view: str, meaning: Sequence[Mapping[str, Any]]) -> FeatureSchema:
        """The schema of a stored definition; its fingerprint is that of the original."""
        keys = [Entity.from_meaning(each) for each in meaning if each["name"] == KEY]
        exact = [ExactColumn.from_meaning(each) for each in meaning if "exact" in each]
        features = [each for each in meaning if "kind" in each]
        return cls(
            view,
            tuple(FeatureDefinition.from_meaning(each) for each in features),
            key=keys[0] if keys else None,
            exact=tuple(exact),
        )

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of all that is stored: the features, and the exact columns behind them."""
        return tuple(dict.fromkeys([*self.names, *(column.name for column in self.exact)]))

    @cached_property
    def exact_positions(self) -> Mapping[str, int]:
        """Name of an exact column to its place among them."""
        return {column.name: place for place, column in enumerate(self.exact)}

    @property
    def is_windowed(self) -> bool:
        """Whether the values are made from events when they are read, and not stored."""
        return any(feature.rule for feature in self.features)

    @property
    def meaning(self) -> list[dict[str, Any]]:
        """Everything that decides what stored values mean, as the stores keep it."""
        key = [] if self.key is None else [self.key.meaning]
        exact = (column.meaning for column in self.exact)
        return [*key, *(feature.meaning for feature in self.features), *exact]

    def __len__(self) -> int:
        return len(self.features)

    def position(self, name: str) -> int:
        """Place of a feature in the vector.

        Raises
        ------
        UnknownFeature
            If the view has no such feature; the message names the nearest.
        """
        try:
            return self.positions[name]
        except KeyError:
            raise self.unknown(name) from None

    def unknown(self, name: str) -> UnknownFeature:
        """Build the error for a name that the view does not define."""
        return UnknownFeature(
            f"Feature '{name}' is not in '{self.view}'. {did_you_mean(name, self.columns)}"
            f"Known: {', '.join(self.columns)}."
        )

    def require(self, name: str) -> None:
        """Raise unless a feature or an exact column is called so.

        Raises
        ------
        UnknownFeature
            The message names the nearest.
        """
        if name not in self.positions and name not in self.exact_positions:
            raise self.unknown(name)

    def select(self, names: Sequence[str]) -> FeatureSchema:
        """Return the schema of some of the features and exact columns, in the given order.

        Raises
        ------
        UnknownFeature
            If the view has no such feature.
        """
        for name in names:
            self.require(name)
        features = [self.features[self.positions[n]] for n in names if n in self.positions]
        exact = [self.exact[self.exact_positions[n]] for n in names if n in self.exact_positions]
        return FeatureSchema(self.view, tuple(features), self.whole or self, self.key, tuple(exact))

    def decode(
        self, vector: np.ndarray, exact: Sequence[ExactValue] | None = None
    ) -> dict[str, Any]:
        """Turn one vector ``(p,)`` into a mapping from name to value as people know it.

        Parameters
        ----------
        exact
            The values of the exact columns, in their order; without them only features are given.
        """
        values: dict[str, Any] = {
            f.name: f.decode(v) for f, v in zip(self.features, vector.tolist(), strict=True)
        }
        if exact is not None:
            names = (column.name for column in self.exact)
            values |= dict(zip(names, exact, strict=True))
        return values
