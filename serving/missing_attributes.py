"""Which raw attributes are missing from a vector, or are words that nobody defined."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from feature_store.registry import FIRST_KNOWN, FeatureSchema

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
        raw = [feature for feature in schema.features if not feature.inputs]
        least = [FIRST_KNOWN if feature.kind == "category" else -np.inf for feature in raw]
        self._names = [feature.name for feature in raw]
        self._places = np.array([schema.position(name) for name in self._names], dtype=int)
        self._least_known = np.array(least, dtype=np.float32)
        self._by_pattern: dict[bytes, list[str]] = {}

    def of(self, values: NDArray[np.float32]) -> list[list[str]]:
        """Names of what is missing or unseen, for each vector of ``(n, p)``; do not change them."""
        # A missing number is NaN, and no comparison with NaN is true.
        known = np.packbits(values[:, self._places] >= self._least_known, axis=1)
        size, packed = known.shape[1], known.tobytes()
        return [self._named(packed[at : at + size]) for at in range(0, len(packed), size)]

    def _named(self, known: bytes) -> list[str]:
        """Names whose bit is not set; the patterns that occur are few, and are kept."""
        names = self._by_pattern.get(known)
        if names is None:
            bits = np.unpackbits(np.frombuffer(known, np.uint8), count=len(self._names)).tolist()
            names = [name for name, bit in zip(self._names, bits, strict=True) if not bit]
            if len(self._by_pattern) < PATTERNS_KEPT:
                self._by_pattern[known] = names
        return names
