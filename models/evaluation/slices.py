"""Quality apart for groups of people or things, with intervals; small groups are marked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.schema import FIRST_KNOWN, FeatureDefinition
from models.base import Labels, Values
from models.errors import TrainingRefused
from models.evaluation import intervals
from models.evaluation.intervals import Estimate
from models.evaluation.metrics import counts, row_losses

MISSING_WORD = "missing"
FEWEST_OF_A_LABEL = 10
"""With fewer rows of a label a slice is small, however many rows it has."""


@dataclass(frozen=True)
class Slice:
    """The rows with one word of a category.

    Parameters
    ----------
    by, word
        The feature and its word; ``missing`` stands for missing and unseen ones.
    positives
        Rows with label 1.
    is_small
        Whether its numbers say little.
    metrics
        ``accuracy``, ``selection_rate``, ``recall``, ``false_positive_rate``, ``roc_auc``,
        ``log_loss`` and ``calibration_gap`` (mean probability less share of 1s), by name.
    """

    by: str
    word: str
    n: int
    positives: int
    is_small: bool
    metrics: Mapping[str, Estimate]


def words_of(
    matrix: FeatureMatrix, by: str, setting: str = "training.evaluation.slices"
) -> NDArray[np.object_]:
    """The word of each row ``(n,)`` for a category; missing and unseen ones are ``missing``.

    Parameters
    ----------
    setting
        Where the category was named, for people.

    Raises
    ------
    TrainingRefused
        If the feature is not a category.
    """
    place = matrix.schema.position(by)
    feature = matrix.schema.features[place]
    if feature.kind != "category":
        known = ", ".join(f.name for f in matrix.schema.features if f.kind == "category")
        raise TrainingRefused(
            f"Setting '{setting}' names '{by}', which is no category but a "
            f"{feature.kind}. Known: {known}."
        )
    words = np.array([MISSING_WORD] * FIRST_KNOWN + list(feature.categories), dtype=object)
    taken: NDArray[np.object_] = words[matrix.values[:, place].astype(np.int64)]
    return taken


def slices(
    matrix: FeatureMatrix,
    labels: Labels,
    probabilities: Values,
    threshold: float,
    by: Sequence[str],
    smallest: int,
) -> tuple[Slice, ...]:
    """Judge the rows of every word of some categories; ``matrix`` has all features."""
    found: list[Slice] = []
    for name in by:
        words = words_of(matrix, name)
        for word, rows in _groups(words, matrix.schema.features[matrix.schema.position(name)]):
            found.append(
                _judge_slice(name, word, labels[rows], probabilities[rows], threshold, smallest)
            )
    return tuple(found)


def _groups(
    words: NDArray[np.object_], feature: FeatureDefinition
) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """The words that occur, in the order of the vocabulary, with their rows."""
    for word in (*feature.categories, MISSING_WORD):
        rows = np.flatnonzero(words == word)
        if len(rows):
            yield word, rows


def _judge_slice(
    by: str, word: str, labels: Labels, probabilities: Values, threshold: float, smallest: int
) -> Slice:
    n, ones = len(labels), int(labels.sum())
    tp, fp, fn, tn = counts(labels, probabilities, threshold)
    metrics = {
        "accuracy": intervals.share(tp + tn, n),
        "selection_rate": intervals.share(tp + fp, n),
        "recall": intervals.share(tp, tp + fn),
        "false_positive_rate": intervals.share(fp, fp + tn),
        "roc_auc": intervals.roc_auc(labels, probabilities),
        "log_loss": intervals.mean(row_losses(labels, probabilities)),
        "calibration_gap": intervals.mean(probabilities.astype(np.float64) - labels),
    }
    is_small = n < smallest or min(ones, n - ones) < FEWEST_OF_A_LABEL
    return Slice(by, word, n, ones, is_small, metrics)
