"""What a feature is: the one definition from which everything else is derived."""

from __future__ import annotations

import difflib
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from feature_store.errors import DefinitionError, UnknownFeature
from feature_store.rules import refuse_unrepeatable

Kind = Literal["integer", "number", "category"]
FeatureFunction = Callable[..., np.ndarray]

MISSING, UNSEEN, FIRST_KNOWN = 0, 1, 2
"""Codes of a category: missing, not in the vocabulary, first word of the vocabulary."""
LARGEST_EXACT_INTEGER = 2**24
"""Above it float32 no longer holds every whole number."""


@dataclass(frozen=True)
class FeatureDefinition:
    """One feature: a raw column (no function), or a function of other columns.

    Parameters
    ----------
    name
        The feature's name; a raw column's name in the source.
    kind
        ``integer`` (a whole number, exact up to 2**24), ``number`` or ``category``.
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
    tags
        Free labels, as Feast shows them.
    version
        Raise it when the function's meaning changes.
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
    tags: Mapping[str, str] = field(default_factory=dict)
    version: int = 1

    def __post_init__(self) -> None:
        if (self.kind == "category") != bool(self.categories):
            raise DefinitionError(
                f"Feature '{self.name}' is a {self.kind} with {len(self.categories)} categories; "
                "a category names its vocabulary, a number has none."
            )
        if self.kind == "integer" and self.valid_range is not None:
            if max(map(abs, self.valid_range)) > LARGEST_EXACT_INTEGER:
                raise DefinitionError(
                    f"Feature '{self.name}' ranges over {self.valid_range}; float32 holds whole "
                    f"numbers exactly up to {LARGEST_EXACT_INTEGER}. Declare it a number."
                )

    @property
    def is_raw(self) -> bool:
        """Whether the value comes from the source (or the request) and not from a function."""
        return self.function is None

    @cached_property
    def codes(self) -> Mapping[str, int]:
        """The vocabulary as a mapping from word to code."""
        return {word: FIRST_KNOWN + place for place, word in enumerate(self.categories)}

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
        }

    def decode(self, value: float) -> int | float | str | None:
        """Give the stored float32 back as people know it: a word, a whole number, or None.

        Examples
        --------
        >>> FeatureDefinition("sex", "category", "", categories=("Female", "Male")).decode(3.0)
        'Male'
        """
        if self.kind == "category":
            code = int(value)
            return self.categories[code - FIRST_KNOWN] if code >= FIRST_KNOWN else None
        if value != value:
            return None
        return int(value) if self.kind == "integer" else float(value)


@dataclass(frozen=True)
class FeatureSchema:
    """Names and kinds of a view's features in the order of its vectors, with a fingerprint.

    The fingerprint (16 hex characters) covers everything that decides what a stored value means:
    names, order, kinds, versions, vocabularies, ranges and inputs. ``whole`` is the schema that
    some of the features were selected from, or None.
    """

    view: str
    features: tuple[FeatureDefinition, ...]
    whole: FeatureSchema | None = None

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
        meaning = [self.view, *(feature.meaning for feature in self.features)]
        return hashlib.sha256(json.dumps(meaning).encode()).hexdigest()[:16]

    @property
    def definition_fingerprint(self) -> str:
        """Fingerprint of the whole view that these features were selected from."""
        return self.fingerprint if self.whole is None else self.whole.fingerprint

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
        near = difflib.get_close_matches(name, self.names, n=1)
        hint = f"Did you mean '{near[0]}'? " if near else ""
        return UnknownFeature(
            f"Feature '{name}' is not in '{self.view}'. {hint}Known: {', '.join(self.names)}."
        )

    def select(self, names: Sequence[str]) -> FeatureSchema:
        """Return the schema of some of the features, in the given order."""
        chosen = tuple(self.features[self.position(name)] for name in names)
        return FeatureSchema(self.view, chosen, self.whole or self)

    def decode(self, vector: np.ndarray) -> dict[str, int | float | str | None]:
        """Turn one vector ``(p,)`` into a mapping from name to value as people know it."""
        values = vector.tolist()
        return {f.name: f.decode(v) for f, v in zip(self.features, values, strict=True)}


class FeatureView:
    """The features of one entity, in the order in which they are defined.

    Parameters
    ----------
    name, entity
        The view's name and the name of its entity key.
    tags
        Tags that every feature of the view carries.

    Examples
    --------
    >>> view = FeatureView("people", entity="person_id")
    >>> _ = view.raw("height", unit="m", valid_range=(0, 3), description="Body height.")
    >>> @view.feature(unit="cm", valid_range=(0, 300))
    ... def height_cm(height):
    ...     "Body height in centimetres."
    ...     return height * np.float32(100)
    >>> view.schema.names
    ('height', 'height_cm')
    """

    def __init__(self, name: str, entity: str, tags: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.entity = entity
        self.tags = dict(tags or {})
        self.definitions: dict[str, FeatureDefinition] = {}
        self.fills: dict[str, FeatureDefinition] = {}

    def raw(
        self,
        name: str,
        *,
        description: str,
        categories: Iterable[str] = (),
        unit: str = "",
        valid_range: tuple[float, float] | None = None,
        integer: bool = False,
        protected: bool = False,
    ) -> FeatureDefinition:
        """Define a raw column; its kind follows from ``categories`` and ``integer``."""
        words = tuple(categories)
        kind: Kind = "category" if words else "integer" if integer else "number"
        return self._add(
            FeatureDefinition(
                name=name,
                kind=kind,
                description=description,
                unit=unit,
                categories=words,
                valid_range=valid_range,
                protected=protected,
                tags=self.tags,
            )
        )

    def feature(
        self,
        *,
        categories: Iterable[str] = (),
        unit: str = "",
        valid_range: tuple[float, float] | None = None,
        integer: bool = False,
        version: int = 1,
    ) -> Callable[[FeatureFunction], FeatureFunction]:
        """Define a derived feature: the function's name, parameters and docstring are its own."""
        words = tuple(categories)
        kind: Kind = "category" if words else "integer" if integer else "number"

        def register(function: FeatureFunction) -> FeatureFunction:
            inputs = self._inputs_of(function)
            self._add(
                FeatureDefinition(
                    name=function.__name__,
                    kind=kind,
                    description=inspect.cleandoc(function.__doc__ or "").split("\n\n")[0],
                    unit=unit,
                    categories=words,
                    valid_range=valid_range,
                    inputs=inputs,
                    function=function,
                    protected=any(self.definitions[name].protected for name in inputs),
                    tags=self.tags,
                    version=version,
                )
            )
            return function

        return register

    def fill(self, name: str) -> Callable[[FeatureFunction], FeatureFunction]:
        """Say how a raw column follows from other raw columns when it is absent."""

        def register(function: FeatureFunction) -> FeatureFunction:
            target = self.definitions[name]
            self.fills[name] = FeatureDefinition(
                name=name,
                kind=target.kind,
                description=target.description,
                categories=target.categories,
                inputs=self._inputs_of(function),
                function=function,
            )
            return function

        return register

    @property
    def schema(self) -> FeatureSchema:
        """The schema of all features."""
        return FeatureSchema(self.name, tuple(self.definitions.values()))

    @property
    def raw_features(self) -> tuple[FeatureDefinition, ...]:
        """The raw columns, in order."""
        return tuple(f for f in self.definitions.values() if f.is_raw)

    @property
    def attribute_groups(self) -> tuple[tuple[str, ...], ...]:
        """Raw columns, those that follow from each other together: they are absent together."""
        groups: dict[str, list[str]] = {f.name: [f.name] for f in self.raw_features}
        for name, fill in self.fills.items():
            for source in fill.inputs:
                if groups[name] is not groups[source]:
                    groups[source].extend(groups[name])
                    for member in groups[name]:
                        groups[member] = groups[source]
        return tuple({id(group): tuple(group) for group in groups.values()}.values())

    def _inputs_of(self, function: FeatureFunction) -> tuple[str, ...]:
        refuse_unrepeatable(function)
        inputs = tuple(inspect.signature(function).parameters)
        unknown = [name for name in inputs if name not in self.definitions]
        if unknown:
            raise DefinitionError(
                f"Feature '{function.__name__}' takes '{unknown[0]}', which '{self.name}' does not "
                f"define above it. Known so far: {', '.join(self.definitions)}."
            )
        return inputs

    def _add(self, definition: FeatureDefinition) -> FeatureDefinition:
        if definition.name in self.definitions:
            raise DefinitionError(
                f"Feature '{definition.name}' is defined twice in '{self.name}'. Rename one."
            )
        if not definition.description:
            raise DefinitionError(
                f"Feature '{definition.name}' has no description. Give it a docstring."
            )
        self.definitions[definition.name] = definition
        return definition
