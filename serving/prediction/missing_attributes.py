"""Which raw attributes are missing from a vector, or are words that nobody defined."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.schema import FIRST_KNOWN, FeatureSchema

PATTERNS_KEPT = 1024


class MissingAttributes:
    """Names the raw columns of a schema that a model cannot see in a vector.

    Examples
    --------
    >>> from feature_store.feature_definitions import USER_FEATURES
    >>> missing = MissingAttributes(USER_FEATURES.schema)
    >>> [names] = missing.of(np.full((1, 47), np.nan, dtype=np.float32))
    >>> names[:3]
    ['age', 'workclass', 'fnlwgt']
    """

    def __init__(self, schema: FeatureSchema) -> None:
        least = [FIRST_KNOWN if each.kind == "category" else -np.inf for each in schema.features]
        self._least_known = np.array(least, dtype=np.float32)
        self._raw = [
            (place, feature.name, least[place])
            for place, feature in enumerate(schema.features)
            if not feature.inputs
        ]
        self._by_pattern: dict[bytes, list[str]] = {}

    def of(self, values: NDArray[np.float32]) -> list[list[str]]:
        """Names of what is missing or unseen, for each vector of ``(n, p)``; do not change them."""
        # A missing number is NaN, and no comparison with NaN is true.
        if len(values) == 1:  # cold, an array operation takes as long as all else here
            row = values[0].tolist()
            return [[name for place, name, least in self._raw if not row[place] >= least]]
        size, packed = values.shape[1], (values >= self._least_known).tobytes()
        return [self._name(packed[at : at + size]) for at in range(0, len(packed), size)]

    def _name(self, known: bytes) -> list[str]:
        """Raw names whose byte is 0; the patterns that occur are few, and are kept."""
        names = self._by_pattern.get(known)
        if names is None:
            names = [name for place, name, _ in self._raw if not known[place]]
            if len(self._by_pattern) < PATTERNS_KEPT:
                self._by_pattern[known] = names
        return names
