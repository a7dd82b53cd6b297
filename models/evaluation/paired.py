"""Two models on the same rows: the difference of their losses and metrics, with intervals.

The difference row by row has far less spread than either loss: what is hard for one model is hard
for the other. A difference below 0 speaks for the first model where less is better.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from models.base import Labels, Values
from models.evaluation.metrics import (
    Numbers,
    accuracy,
    counts,
    f1,
    log_loss,
    squared_errors,
)

Metric = Callable[[Labels, Values, float], float]
"""Takes labels, probabilities and the decision threshold of a model."""

RESAMPLES = 500
"""Quantiles of 0.025 then stand on a dozen resamples at either end."""


@dataclass(frozen=True)
class Difference:
    """A mean difference over ``n`` rows and the limits of its interval."""

    mean: float
    low: float
    high: float
    n: int


def mean_difference(differences: Numbers, confidence: float) -> Difference:
    """The mean of paired differences; each limit alone holds with this confidence.

    Notes
    -----
    The normal interval of a mean of paired losses: Diebold and Mariano, Comparing Predictive
    Accuracy (1995), for independent rows. An upper limit below a margin shows non-inferiority at
    the level ``1 - confidence``.

    Examples
    --------
    >>> mean_difference(np.array([-1.0, 1.0] * 50), 0.95).high.__round__(3)
    0.165
    """
    n = len(differences)
    mean = float(np.mean(differences))
    spread = float(np.std(differences, ddof=1)) if n > 1 else float("inf")
    reach = NormalDist().inv_cdf(confidence) * spread / np.sqrt(n)
    return Difference(mean, mean - float(reach), mean + float(reach), n)


def metric_differences(
    labels: Labels,
    first: tuple[Values, float],
    second: tuple[Values, float],
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float, Difference]]:
    """Each metric of two models (probabilities and threshold) and the second less the first.

    Returns
    -------
    Metric to its value for the first, for the second, and the difference with the two-sided
    interval of a paired bootstrap: both models are judged on the same resampled rows
    (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).
    """
    random = np.random.default_rng(seed)
    n = len(labels)
    resampled: dict[str, list[float]] = {name: [] for name in METRICS}
    for _ in range(RESAMPLES):
        rows = random.integers(0, n, n)
        if not 0 < int(labels[rows].sum()) < n:
            continue
        for name, metric in METRICS.items():
            one = metric(labels[rows], first[0][rows], first[1])
            other = metric(labels[rows], second[0][rows], second[1])
            resampled[name].append(other - one)
    tail = (1 - confidence) / 2
    result = {}
    for name, metric in METRICS.items():
        one, other = metric(labels, *first), metric(labels, *second)
        low, high = np.quantile(resampled[name], [tail, 1 - tail])
        result[name] = one, other, Difference(other - one, float(low), float(high), n)
    return result


def _roc_auc(labels: Labels, probabilities: Values, _: float) -> float:
    """Share of pairs of a 1 and a 0 that are in the right order; ties count half."""
    values, places = np.unique(probabilities, return_inverse=True)
    all_at = np.bincount(places, minlength=len(values))
    ones_at = np.bincount(places, weights=labels, minlength=len(values))
    zeros_at = all_at - ones_at
    zeros_below = np.cumsum(zeros_at) - zeros_at
    pairs = ones_at.sum() * zeros_at.sum()
    return float(np.sum(ones_at * (zeros_below + zeros_at / 2)) / pairs)


METRICS: Mapping[str, Metric] = {
    "accuracy_at_threshold": lambda y, p, threshold: accuracy(*counts(y, p, threshold)),
    "f1_score": lambda y, p, threshold: f1(*counts(y, p, threshold)),
    "roc_auc": _roc_auc,
    "log_loss": lambda y, p, _: log_loss(y, p),
    "brier": lambda y, p, _: float(np.mean(squared_errors(y, p))),
}
