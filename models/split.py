"""Which rows a model learns from, which choose its threshold, and which judge it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feature_store.engine import FeatureMatrix
from models.base import Labels
from models.evaluation import refuse_one_class

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
) -> Split:
    """Split at random with equal shares of 1s; rows with equal features stay together.

    Raises
    ------
    TrainingRefused
        If there are rows of one label only, or too few for three parts.
    """
    refuse_one_class(labels, "Training")
    random = np.random.default_rng(seed)
    first, group = _groups(features.values)
    test = _draw(labels[first], np.arange(len(first)), test_share, random)
    rest = np.setdiff1d(np.arange(len(first)), test)
    validation = _draw(labels[first], rest, validation_share, random)
    role = np.zeros(len(first), dtype=np.int8)
    role[validation], role[test] = 1, 2
    parts = [Part(features.rows(chosen), labels[chosen]) for chosen in _places(role[group])]
    for part, name in zip(parts, ("training part", "validation part", "test part"), strict=True):
        refuse_one_class(part.labels, f"The {name}")
    return Split(*parts)


def _groups(values: NDArray[np.float32]) -> tuple[Places, Places]:
    """First row of each distinct vector, and the distinct vector of each row."""
    rows = np.ascontiguousarray(values).view(np.dtype((np.void, values.shape[1] * 4)))[:, 0]
    _, first, group = np.unique(rows, return_index=True, return_inverse=True)
    return first, group


def _draw(labels: Labels, among: Places, share: float, random: np.random.Generator) -> Places:
    """Draw a share of each label's places."""
    drawn = []
    for label in (0, 1):
        places = random.permutation(among[labels[among] == label])
        drawn.append(places[: round(share * len(places))])
    return np.concatenate(drawn)


def _places(role: NDArray[np.int8]) -> list[Places]:
    return [np.flatnonzero(role == number) for number in range(3)]
