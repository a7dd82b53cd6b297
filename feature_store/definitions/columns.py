"""The vocabulary in which features are written: functions of columns that repeat to the bit.

A column of numbers is a contiguous float32 array ``(n,)`` in which NaN is missing; a column of a
category is an int64 array of codes ``(n,)`` in which 0 is missing and 1 is unseen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.schema import FIRST_KNOWN, MISSING, UNSEEN, FeatureDefinition
from feature_store.errors import DefinitionError

Numbers = NDArray[np.float32]
Codes = NDArray[np.int64]


def log1p(x: Numbers) -> Numbers:
    """Natural logarithm of ``1 + x``, computed in float64 so that every processor agrees."""
    return np.log1p(x.astype(np.float64)).astype(np.float32)


def flag(condition: NDArray[np.bool_], of: Numbers) -> Numbers:
    """1 where the condition holds, 0 where not, missing where the number it is about is."""
    return of * np.float32(0) + condition


class CodeTable:
    """A category as a function of another: ``table(codes)`` maps codes to codes.

    Examples
    --------
    >>> pet = FeatureDefinition("pet", "category", "", categories=("cat", "dog", "eagle"))
    >>> CodeTable(pet, {"legs": ["cat", "dog"], "wings": ["eagle"]})(np.array([0, 1, 2, 4]))
    array([0, 1, 2, 3])
    """

    def __init__(self, source: FeatureDefinition, groups: Mapping[str, Sequence[str]]) -> None:
        self.categories = tuple(groups)
        self.table = np.zeros(len(source.categories) + FIRST_KNOWN, dtype=np.int64)
        self.table[UNSEEN] = UNSEEN
        for code, words in enumerate(groups.values(), start=FIRST_KNOWN):
            for word in words:
                self.table[_code(source, word)] = code
        _refuse_gaps(source, self.table[FIRST_KNOWN:] == MISSING)

    def __call__(self, codes: Codes) -> Codes:
        """Map codes ``(n,)`` to codes ``(n,)``."""
        return self.table.take(codes)


class NumberTable:
    """A number as a function of a category; missing and unseen give a missing number.

    Parameters
    ----------
    source
        The category.
    values
        Word to number; without ``default`` every word of the vocabulary must have one.
    """

    def __init__(
        self, source: FeatureDefinition, values: Mapping[str, float], default: float | None = None
    ) -> None:
        fallback = np.nan if default is None else default
        self.table = np.full(len(source.categories) + FIRST_KNOWN, fallback, dtype=np.float32)
        self.table[[MISSING, UNSEEN]] = np.nan
        for word, value in values.items():
            self.table[_code(source, word)] = value
        _refuse_gaps(source, np.isnan(self.table[FIRST_KNOWN:]))

    def __call__(self, codes: Codes) -> Numbers:
        """Map codes ``(n,)`` to numbers ``(n,)``."""
        return self.table.take(codes)


class Membership(NumberTable):
    """1 for the named words of a category, 0 for its other words, missing for missing or unseen."""

    def __init__(self, source: FeatureDefinition, *words: str) -> None:
        super().__init__(source, dict.fromkeys(words, 1.0), default=0.0)


class Bands:
    """A category as a function of a number: the half-open band in which the number lies.

    Parameters
    ----------
    edges
        Inner edges, ascending; ``k`` edges make ``k + 1`` bands, named from below.

    Examples
    --------
    >>> age = Bands([18, 65])
    >>> age.categories
    ('below 18', '18 to 65', '65 and above')
    >>> age(np.array([3, 18, 90, np.nan], dtype=np.float32))
    array([2, 3, 4, 0])
    """

    def __init__(self, edges: Sequence[float]) -> None:
        inner = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
        self.categories = (f"below {edges[0]:g}", *inner, f"{edges[-1]:g} and above")
        # NaN sorts behind infinity, so it gets a place of its own.
        self.edges = np.array([*edges, np.inf], dtype=np.float32)
        self.table = np.array([*range(FIRST_KNOWN, len(edges) + 3), MISSING], dtype=np.int64)

    def __call__(self, x: Numbers) -> Codes:
        """Map numbers ``(n,)`` to codes ``(n,)``."""
        return self.table.take(self.edges.searchsorted(x, side="right"))


class CodeByNumber:
    """A category as a function of the number that stands for it; other numbers give missing."""

    def __init__(self, target: FeatureDefinition, values: Mapping[str, float]) -> None:
        self.values = np.array(sorted(values.values()), dtype=np.float32)
        by_value = {value: _code(target, word) for word, value in values.items()}
        self.codes = np.array([by_value[v] for v in sorted(by_value)], dtype=np.int64)

    def __call__(self, x: Numbers) -> Codes:
        """Map numbers ``(n,)`` to codes ``(n,)``."""
        place = np.minimum(self.values.searchsorted(x), len(self.values) - 1)
        return np.where(self.values.take(place) == x, self.codes.take(place), MISSING)


def _code(source: FeatureDefinition, word: str) -> int:
    try:
        return source.codes[word]
    except KeyError:
        raise DefinitionError(
            f"'{word}' is not a category of '{source.name}'. Known: {', '.join(source.categories)}."
        ) from None


def _refuse_gaps(source: FeatureDefinition, gaps: NDArray[np.bool_]) -> None:
    if source.open_to is not None:
        raise DefinitionError(
            f"A table over '{source.name}' cannot name every category: its vocabulary is open. "
            "Give it categories."
        )
    words = [word for word, gap in zip(source.categories, gaps, strict=True) if gap]
    if words:
        raise DefinitionError(
            f"A table over '{source.name}' says nothing of {', '.join(words)}. Name every category."
        )
