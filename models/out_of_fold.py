"""Folds in which neither copies of a row nor equal rows are on two sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from feature_store.engine import FeatureMatrix
from models.split import row_groups

Places = NDArray[np.intp]


def joined(one: FeatureMatrix, other: FeatureMatrix) -> FeatureMatrix:
    """Put rows behind others; keys of the second are moved so that none is a key of the first."""
    free = one.keys.max(initial=0) + 1 - other.keys.min(initial=0)
    return replace(
        one,
        values=np.concatenate([one.values, other.values]),
        keys=np.concatenate([one.keys, other.keys + free]),
        times=np.concatenate([one.times, other.times]),
    )


def originals(matrix: FeatureMatrix) -> NDArray[np.bool_]:
    """Which rows are the first of their key: masked copies come behind them."""
    first = np.zeros(len(matrix), dtype=bool)
    first[np.unique(matrix.keys, return_index=True)[1]] = True
    return first


def fold_numbers(matrix: FeatureMatrix, n_folds: int, seed: int) -> Places:
    """Draw the fold of each row, ``(n,)``, in ``0 … n_folds - 1``.

    Rows with the same key are in one fold, and so are rows whose first of the key are equal.
    """
    _, first, key = np.unique(matrix.keys, return_index=True, return_inverse=True)
    group = row_groups(matrix.values[first])
    drawn = np.random.default_rng(seed).permutation(group.max() + 1) % n_folds
    numbers: Places = drawn[group][key]
    return numbers
