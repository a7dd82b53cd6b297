"""Parts of the training rows for cross-validation; equal rows are always in the same part."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from models.errors import TrainingRefused
from models.split import Part, Places, row_groups


def sampled(part: Part, most: int, seed: int) -> Part:
    """Draw about so many rows, equal ones all or none, with equal shares of both labels."""
    if len(part) <= most:
        return part
    place = _places_in_label(part, seed)
    return _rows(part, place < most / len(part))


def folds(part: Part, k: int, seed: int) -> Iterator[tuple[Part, Part]]:
    """Give ``k`` times the rows to learn from and those, a ``k``-th, to be judged on.

    Each row is judged once. Equal rows are judged together, and both labels are spread evenly.

    Raises
    ------
    TrainingRefused
        If there are fewer distinct rows of a label than folds.
    """
    number = np.floor(_places_in_label(part, seed) * k).astype(np.int64)
    for fold in range(k):
        judged = number == fold
        for side in (judged, ~judged):
            if len(np.unique(part.labels[side])) < 2:
                raise TrainingRefused(
                    f"{len(part):,} rows cannot be parted into {k} folds with both labels in "
                    "each. Widen the range of dates, or lower 'training.tuning.folds'."
                )
        yield _rows(part, ~judged), _rows(part, judged)


def _places_in_label(part: Part, seed: int) -> NDArray[np.float64]:
    """For each row a number in [0, 1): uniform among its label, equal for equal rows."""
    _, first, group = np.unique(
        row_groups(part.features.values), return_index=True, return_inverse=True
    )
    order = np.random.default_rng(seed).permutation(len(first))
    label = part.labels[first]
    share = np.empty(len(first))
    for value in np.unique(label):
        members = order[label[order] == value]
        share[members] = np.arange(len(members)) / len(members)
    in_label: NDArray[np.float64] = share[group]
    return in_label


def _rows(part: Part, which: NDArray[np.bool_]) -> Part:
    places: Places = np.flatnonzero(which)
    return Part(part.features.rows(places), part.labels[places])
