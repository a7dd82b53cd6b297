"""Which rows a model learns from, which choose its threshold, and which judge it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.engine import FeatureMatrix
from models.base import Labels, refuse_one_class, share_cores
from models.errors import TrainingRefused

Places = NDArray[np.intp]


@dataclass(frozen=True)
class Part:
    """Some of the rows: features ``(n, p)`` and labels int8 ``(n,)``."""

    features: FeatureMatrix
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Split:
    """Three parts without a row in common, nor equal rows in two of them.

    Parameters
    ----------
    train
        To learn from.
    validation
        To decide when to stop and which threshold to use; carved from what is not test.
    test
        To judge, once, at the end.
    """

    train: Part
    validation: Part
    test: Part


def split_rows(
    features: FeatureMatrix,
    labels: Labels,
    *,
    test_share: float,
    validation_share: float,
    seed: int,
    told_apart_by: NDArray[np.float32] | None = None,
) -> Split:
    """Split at random with equal shares of 1s; rows with equal features stay together.

    The test part is that of scikit-learn's ``train_test_split`` with the same seed, less the few
    rows that have an equal one elsewhere: those are learned from, so that no test row
    was memorised.

    Parameters
    ----------
    told_apart_by
        ``(n, q)`` values by which rows are equal; all features when None.

    Raises
    ------
    TrainingRefused
        If there are rows of one label only, or too few for three parts.
    """
    refuse_one_class(labels, "Training")
    group = row_groups(features.values if told_apart_by is None else told_apart_by)
    rest, test = _draw(np.arange(len(labels)), labels, test_share, seed)
    test = test[~np.isin(group[test], group[rest])]
    rest = np.setdiff1d(np.arange(len(labels)), test)
    train, validation = _draw(rest, labels, validation_share, seed)
    validation = validation[~np.isin(group[validation], group[train])]
    train = np.setdiff1d(rest, validation)
    parts = {"training": train, "validation": validation, "test": test}
    for name, places in parts.items():
        refuse_one_class(labels[places], f"The {name} part")
    return Split(*[Part(features.rows(places), labels[places]) for places in parts.values()])


def row_groups(values: NDArray[np.float32]) -> Places:
    """Number of the distinct vector of each row, ``(n,)``; vectors are equal to the bit."""
    width = values.shape[1] * values.itemsize
    rows = np.ascontiguousarray(values).view(np.dtype((np.void, width)))[:, 0]
    numbers: Places = np.unique(rows, return_inverse=True)[1]
    return numbers


def _draw(places: Places, labels: Labels, share: float, seed: int) -> tuple[Places, Places]:
    """Draw a share of each label's places; return those that are left, and those drawn."""
    share_cores()
    from sklearn.model_selection import train_test_split

    try:
        left, drawn = train_test_split(
            places, test_size=share, random_state=seed, stratify=labels[places]
        )
    except ValueError as error:
        raise TrainingRefused(
            f"{len(places)} rows cannot be split with a share of {share:g}: {error}"
        ) from error
    return np.sort(left), np.sort(drawn)


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
