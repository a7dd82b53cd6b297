"""Which raw attributes are missing from a vector, and which hold a word that nobody defined."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.schema import FIRST_KNOWN, UNSEEN, FeatureSchema

PATTERNS_KEPT = 1024


class Unknowns(NamedTuple):
    """Names of raw attributes that say nothing to a model; do not change the lists."""

    missing: list[str]
    unseen: list[str]


NONE = Unknowns([], [])


class MissingAttributes:
    """Names the raw columns of a schema that a model cannot see in a vector.

    Examples
    --------
    >>> from feature_store.feature_definitions import USER_FEATURES
    >>> missing = MissingAttributes(USER_FEATURES.schema)
    >>> [names] = missing.of(np.full((1, 47), np.nan, dtype=np.float32))
    >>> names.missing[:3], names.unseen
    (['age', 'workclass', 'fnlwgt'], [])
    """

    def __init__(self, schema: FeatureSchema) -> None:
        is_category = [feature.kind == "category" for feature in schema.features]
        least = [FIRST_KNOWN if category else -np.inf for category in is_category]
        self._least_known = np.array(least, dtype=np.float32)
        # No number equals NaN, so that no number is an unseen word.
        unseen = [UNSEEN if category else np.nan for category in is_category]
        self._unseen = np.array(unseen, dtype=np.float32)
        seen: set[str] = set()  # the places of an array are missing together
        self._raw: list[tuple[int, str, float, float]] = []
        for place, feature in enumerate(schema.features):
            name = feature.array[0] if feature.array else feature.name
            if not feature.inputs and name not in seen:
                seen.add(name)
                self._raw.append((place, name, least[place], unseen[place]))
        self._by_pattern: dict[bytes, Unknowns] = {}

    def of(self, values: NDArray[np.float32]) -> list[Unknowns]:
        """Names of what is missing and of what is unseen, for each vector of ``(n, p)``."""
        # A missing number is NaN, and no comparison with NaN is true.
        if len(values) == 1:  # cold, an array operation takes as long as all else here
            row = values[0].tolist()
            unknown = [
                (name, row[place] == unseen)
                for place, name, least, unseen in self._raw
                if not row[place] >= least
            ]
            return [_split(unknown) if unknown else NONE]
        known = (values >= self._least_known).view(np.uint8)
        unseen = (values == self._unseen).view(np.uint8)
        size, packed = values.shape[1], (known | unseen << np.uint8(1)).tobytes()
        return [self._name(packed[at : at + size]) for at in range(0, len(packed), size)]

    def _name(self, pattern: bytes) -> Unknowns:
        """Names by pattern: a byte is 0 for missing, 2 for unseen. Those that occur are few."""
        names = self._by_pattern.get(pattern)
        if names is None:
            raw = [(name, pattern[place]) for place, name, _, _ in self._raw]
            names = _split([(name, state == 2) for name, state in raw if state != 1])
            if len(self._by_pattern) < PATTERNS_KEPT:
                self._by_pattern[pattern] = names
        return names


def _split(unknown: list[tuple[str, bool]]) -> Unknowns:
    return Unknowns(
        [name for name, is_unseen in unknown if not is_unseen],
        [name for name, is_unseen in unknown if is_unseen],
    )
