"""Parts of the rows for cross-validation: neither equal rows nor copies of one are on two sides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.engine import FeatureMatrix
from models.base import Labels
from models.errors import TrainingRefused
from models.rows.split import Part, Places, row_groups


def sampled(part: Part, most: int, seed: int) -> Part:
    """Draw about so many rows, equal ones all or none, with equal shares of both labels."""
    if len(part) <= most:
        return part
    place = _places_in_label(part.features, part.labels, seed)
    return _rows(part, place < most / len(part))


def folds(part: Part, k: int, seed: int) -> Iterator[tuple[Part, Part]]:
    """Give ``k`` times the rows to learn from and those, a ``k``-th, to be judged on.

    Each row is judged once, in the fold that `fold_numbers` gives.

    Raises
    ------
    TrainingRefused
        If there are fewer distinct rows of a label than folds.
    """
    number = fold_numbers(part.features, part.labels, k, seed)
    for fold in range(k):
        judged = number == fold
        for side in (judged, ~judged):
            if len(np.unique(part.labels[side])) < 2:
                raise TrainingRefused(
                    f"{len(part):,} rows cannot be parted into {k} folds with both labels in "
                    "each. Widen the range of dates, or lower 'training.tuning.folds'."
                )
        yield _rows(part, ~judged), _rows(part, judged)


def fold_numbers(matrix: FeatureMatrix, labels: Labels, k: int, seed: int) -> Places:
    """Draw the fold of each row, ``(n,)``, in ``0 … k - 1``, with both labels spread evenly.

    Rows with the same key are in one fold, and so are rows whose first of the key are equal.
    """
    numbers: Places = np.floor(_places_in_label(matrix, labels, seed) * k).astype(np.intp)
    return numbers


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


def _places_in_label(matrix: FeatureMatrix, labels: Labels, seed: int) -> NDArray[np.float64]:
    """Draw a number in [0, 1) for each row, uniform among its label, equal for rows of one group.

    A group is rows with the same key, and rows whose first of the key are equal.
    """
    _, first_of_key, key = np.unique(matrix.keys, return_index=True, return_inverse=True)
    groups = row_groups(matrix.values[first_of_key])
    _, first_of_group = np.unique(groups, return_index=True)
    label = labels[first_of_key][first_of_group]
    order = np.random.default_rng(seed).permutation(len(label))
    share = np.empty(len(label))
    for value in np.unique(label):
        members = order[label[order] == value]
        share[members] = np.arange(len(members)) / len(members)
    in_label: NDArray[np.float64] = share[groups][key]
    return in_label


def _rows(part: Part, which: NDArray[np.bool_]) -> Part:
    places: Places = np.flatnonzero(which)
    return Part(part.features.rows(places), part.labels[places])
