"""How differently the decisions treat groups of a protected attribute, by Fairlearn's measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from feature_store.definitions.engine import FeatureMatrix
from models.base import Labels, Values
from models.evaluation.slices import FEWEST_OF_A_LABEL, MISSING_WORD, words_of

FEWEST_GROUPS = 2


@dataclass(frozen=True)
class Fairness:
    """Differences between the groups of one attribute.

    Parameters
    ----------
    groups
        The words that are compared; words with few rows are not.
    left_out
        Those.
    demographic_parity_difference
        Largest less smallest selection rate.
    demographic_parity_ratio
        Smallest by largest selection rate.
    true_positive_rate_difference, false_positive_rate_difference
        Largest less smallest rate.
    equalized_odds_difference
        The larger of these two.
    most_selected, least_selected
        The words with the largest and smallest selection rate.
    """

    by: str
    groups: tuple[str, ...]
    left_out: tuple[str, ...]
    demographic_parity_difference: float
    demographic_parity_ratio: float
    true_positive_rate_difference: float
    false_positive_rate_difference: float
    equalized_odds_difference: float
    most_selected: str
    least_selected: str


def fairness(
    matrix: FeatureMatrix,
    labels: Labels,
    probabilities: Values,
    threshold: float,
    by: Sequence[str],
    smallest: int,
) -> tuple[Fairness, ...]:
    """Compare the groups of each protected attribute among ``by``; ``matrix`` has all features.

    An attribute with fewer than two groups of ``smallest`` rows and both labels is left out.
    """
    features = matrix.schema.features
    protected = [name for name in by if features[matrix.schema.position(name)].protected]
    decided = probabilities >= threshold
    found = [
        _compare_groups(name, words_of(matrix, name), labels, decided, smallest)
        for name in protected
    ]
    return tuple(each for each in found if each is not None)


def _compare_groups(
    by: str, words: np.ndarray, labels: Labels, decided: np.ndarray, smallest: int
) -> Fairness | None:
    from fairlearn import metrics as fl

    found, group = np.unique(words.astype(str), return_inverse=True)
    size, ones = np.bincount(group), np.bincount(group, labels)
    few = np.minimum(ones, size - ones)
    large = (size >= smallest) & (few >= FEWEST_OF_A_LABEL) & (found != MISSING_WORD)
    if large.sum() < FEWEST_GROUPS:
        return None
    rows = large[group]
    rates = {
        "selection": fl.selection_rate,
        "tpr": fl.true_positive_rate,
        "fpr": fl.false_positive_rate,
    }
    frame = fl.MetricFrame(
        metrics=rates,
        y_true=labels[rows],
        y_pred=decided[rows].astype(np.int8),
        sensitive_features=words[rows].astype(str),
    )
    difference, selection = frame.difference(), frame.by_group["selection"]
    tpr, fpr = float(difference["tpr"]), float(difference["fpr"])
    return Fairness(
        by=by,
        groups=tuple(found[large]),
        left_out=tuple(found[~large]),
        demographic_parity_difference=float(difference["selection"]),
        demographic_parity_ratio=float(frame.ratio()["selection"]),
        true_positive_rate_difference=tpr,
        false_positive_rate_difference=fpr,
        equalized_odds_difference=max(tpr, fpr),
        most_selected=str(selection.idxmax()),
        least_selected=str(selection.idxmin()),
    )
