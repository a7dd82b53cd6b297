"""How a vector of features enters a neural network: bins for numbers, places for categories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.schema import FIRST_KNOWN
from models.base import Labels

Floats = NDArray[np.float32]
Integers = NDArray[np.int32]

LEAST_IN_BIN = 10
"""Fewest training rows in a bin."""
LEAST_GAIN = 25.0
"""Of a split that makes bins, as an F statistic with one degree of freedom. The best of thousands
of splits by chance has about 15; bins that say nothing about the label lead to overfitting."""


@dataclass(frozen=True)
class Encoding:
    """What is learned from the training rows before the network is.

    A number becomes two values a bin: one is 0 below the bin, 1 above it, and linear inside
    (piecewise-linear encoding, Gorishniy et al. 2022), the other steps from 0 to 1 where the bin
    starts. A missing number is 0 in each and 1 in an indicator of its own. Infinite and unheard-of
    numbers are in the first or last bin. A category becomes a row of one table; missing and unseen
    have rows of their own.

    Parameters
    ----------
    numbers
        Places of the numbers in the vector, ``(f,)``.
    bin_numbers
        Place in the vector of the number of each bin, ``(b,)``.
    bin_starts, bin_widths
        Where bins start and how wide they are, ``(b,)``.
    categories
        Places of the categories in the vector, ``(c,)``.
    table_starts, table_sizes
        First row of each category in the table, and how many it has, ``(c,)``.
    """

    numbers: Integers
    bin_numbers: Integers
    bin_starts: Floats
    bin_widths: Floats
    categories: Integers
    table_starts: Integers
    table_sizes: Integers

    @classmethod
    def fit(cls, matrix: FeatureMatrix, labels: Labels, weights: Floats | None, bins: int) -> Self:
        """Choose at most ``bins`` bins a number, where trees of it alone would split."""
        features = matrix.schema.features
        numbers = [place for place, f in enumerate(features) if f.kind != "category"]
        categories = [place for place, f in enumerate(features) if f.kind == "category"]
        sizes = [FIRST_KNOWN + len(features[place].categories) for place in categories]
        edges = [_edges(matrix.values[:, place], labels, weights, bins) for place in numbers]
        return cls(
            _integers(numbers),
            _integers(np.repeat(numbers, [len(edge) - 1 for edge in edges])),
            np.concatenate([np.empty(0, np.float32), *(edge[:-1] for edge in edges)]),
            np.concatenate([np.empty(0, np.float32), *(np.diff(edge) for edge in edges)]),
            _integers(categories),
            _integers(np.cumsum([0, *sizes])[:-1]),
            _integers(sizes),
        )

    def width(self, embedding_size: int) -> int:
        """How many values an encoded row has."""
        return len(self.numbers) + 2 * len(self.bin_numbers) + embedding_size * len(self.categories)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything in it, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Put together what `arrays` gave."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})


def _edges(column: Floats, labels: Labels, weights: Floats | None, bins: int) -> Floats:
    """Edges ``(bins + 1,)`` at most, in order, of one number."""
    from sklearn.tree import DecisionTreeRegressor

    known = np.isfinite(column)
    if not known.any():
        return np.array([0, 1], dtype=np.float32)
    values, targets = column[known], labels[known].astype(np.float64)
    shares = np.ones(len(targets)) if weights is None else weights[known]
    variance = np.average(np.square(targets - np.average(targets, weights=shares)), weights=shares)
    tree = DecisionTreeRegressor(
        max_leaf_nodes=bins,
        min_samples_leaf=LEAST_IN_BIN,
        min_impurity_decrease=LEAST_GAIN * variance / shares.sum(),
        random_state=0,
    )
    tree.fit(values[:, np.newaxis], targets, shares)
    inner = tree.tree_.threshold[tree.tree_.feature >= 0].astype(np.float32)
    edges = np.unique(np.concatenate([[values.min()], inner, [values.max()]]))
    return edges if len(edges) > 1 else np.array([edges[0], edges[0] + 1], dtype=np.float32)


def _integers(values: Any) -> Integers:
    return np.asarray(values, dtype=np.int32)
