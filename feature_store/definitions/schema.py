"""A schema of many features: the one definition from which all else is derived."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.errors import did_you_mean
from feature_store.definitions.arrays import ArrayColumn, gather
from feature_store.definitions.cleaning import (
    FIRST_KNOWN,
    LARGEST_EXACT_INTEGER,
    MISSING,
    UNSEEN,
)
from feature_store.definitions.entity import KEY, Entity
from feature_store.definitions.exact import ExactColumn, ExactValue
from feature_store.definitions.feature import FeatureDefinition, FeatureFunction, Kind
from feature_store.errors import UnknownFeature

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
    def stored_names(self) -> tuple[str, ...]:
        """Names of all that is stored: the features, and the exact columns behind them."""
        return tuple(dict.fromkeys([*self.names, *(column.name for column in self.exact)]))

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """`stored_names` as people know them: an array is one column."""
        members = {name: array for array, places in self.arrays.items() for name in places}
        return tuple(dict.fromkeys(members.get(name, name) for name in self.stored_names))

    @cached_property
    def arrays(self) -> Mapping[str, Mapping[str, int]]:
        """Name of an array to its places: their names, and where each is in the vector.

        An array of which only some places were selected is none.
        """
        found: dict[str, dict[str, int]] = {}
        sizes = dict(feature.array for feature in self.features if feature.array is not None)
        for place, feature in enumerate(self.features):
            if feature.array is not None:
                found.setdefault(feature.array[0], {})[feature.name] = place
        return {name: places for name, places in found.items() if len(places) == sizes[name]}

    @cached_property
    def array_columns(self) -> Mapping[str, ArrayColumn]:
        """The arrays as columns, without what decides how raw values are read."""
        found: dict[str, ArrayColumn] = {}
        for name, places in self.arrays.items():
            first = self.features[next(iter(places.values()))]
            description = first.description.partition(": ")[2]
            facts = first.unit, first.protected, (), first.tags
            found[name] = ArrayColumn(name, len(places), description, *facts)
        return found

    @cached_property
    def exact_positions(self) -> Mapping[str, int]:
        """Name of an exact column to its place among them."""
        return {column.name: place for place, column in enumerate(self.exact)}

    @cached_property
    def model_inputs(self) -> FeatureSchema:
        """The features alone, which a model takes: what is for lookup is not among them."""
        if not self.exact:
            return self
        return FeatureSchema(self.view, self.features, self.whole or self, self.key)

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
        """Raise unless a feature, an array or an exact column is called so.

        Raises
        ------
        UnknownFeature
            The message names the nearest.
        """
        if name not in self.columns:
            raise self.unknown(name)

    def select(self, names: Sequence[str]) -> FeatureSchema:
        """Return the schema of some of the features and exact columns, in the given order.

        An array stands for its places.

        Raises
        ------
        UnknownFeature
            If the view has no such feature.
        """
        names = [each for name in names for each in self.arrays.get(name, (name,))]
        for name in names:
            if name not in self.positions and name not in self.exact_positions:
                raise self.unknown(name)
        features = [self.features[self.positions[n]] for n in names if n in self.positions]
        exact = [self.exact[self.exact_positions[n]] for n in names if n in self.exact_positions]
        return FeatureSchema(self.view, tuple(features), self.whole or self, self.key, tuple(exact))

    @cached_property
    def open_features(self) -> tuple[FeatureDefinition, ...]:
        """The features whose vocabulary is open."""
        return tuple(feature for feature in self.features if feature.open_to is not None)

    @cached_property
    def words(self) -> Mapping[str, tuple[str, ...]]:
        """The words that are known of the view's open vocabularies, by feature.

        Also of features that were not selected: others may be made from them.
        """
        features = (self.whole or self).open_features
        return {each.name: each.categories for each in features if each.has_words}

    def with_words(self, words: Mapping[str, Sequence[str]]) -> FeatureSchema:
        """The same schema with the words that open vocabularies have by now."""
        if not (self.whole or self).open_features:
            return self
        features = tuple(
            each.with_words(words[each.name]) if each.open_to and each.name in words else each
            for each in self.features
        )
        whole = None if self.whole is None else self.whole.with_words(words)
        return replace(self, features=features, whole=whole)

    def known_codes(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors ``(n, p)`` in which words that this schema does not know are unseen.

        They were learned after it was made: a model has no idea of them. Without open
        vocabularies these are the very vectors that were given.
        """
        for feature in self.open_features:
            feature.require_words()
            column = values[:, self.positions[feature.name]]
            is_new = column >= FIRST_KNOWN + len(feature.categories)
            if is_new.any():
                values = values.copy()
                values[is_new, self.positions[feature.name]] = UNSEEN
        return values

    def decode(
        self, vector: np.ndarray, exact: Sequence[ExactValue] | None = None
    ) -> dict[str, Any]:
        """Turn one vector ``(p,)`` into a mapping from name to value as people know it.

        Parameters
        ----------
        exact
            The values of the exact columns, in their order; without them only features are given.
        """
        values = self.decode_places(vector)
        if self.arrays:
            values = self._gathered(values, vector)
        if exact is not None:
            names = (column.name for column in self.exact)
            values |= dict(zip(names, exact, strict=True))
        return values

    def decode_places(self, vector: np.ndarray) -> dict[str, Any]:
        """`decode` of the features alone, each place of an array by its own name."""
        pairs = zip(self.features, vector.tolist(), strict=True)
        return {feature.name: feature.decode(value) for feature, value in pairs}

    def _gathered(self, values: dict[str, Any], vector: np.ndarray) -> dict[str, Any]:
        """Decoded values with a list in place of the places of an array, in the same order."""
        lists = {
            array: gather(vector[list(places.values())].tolist())
            for array, places in self.arrays.items()
        }
        return {
            name: lists[name] if name in lists else values[name] for name in self._feature_columns
        }

    @cached_property
    def _feature_columns(self) -> tuple[str, ...]:
        names = set(self.names) | set(self.arrays)
        return tuple(name for name in self.columns if name in names)
