"""Which rows a model learns from, which choose its threshold, and which judge it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.engine import FeatureMatrix
from models.base import Labels
from models.errors import TrainingRefused
from models.evaluation.metrics import refuse_one_class
from models.rows.threads import share_cores

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
    rows that have an equal one elsewhere: those are learned from, so that nothing that was
    learned by heart is asked for.

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
