"""Estimates with 95 % intervals: shares (Wilson), means, ROC-AUC (DeLong), others (bootstrap)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import Labels, Values

Z = 1.959964
RESAMPLES = 1_000
AREA_RESAMPLES = 200


@dataclass(frozen=True)
class Estimate:
    """A value between the ends of its 95 % interval; NaN where nothing can be said."""

    value: float
    low: float
    high: float


NOTHING = Estimate(float("nan"), float("nan"), float("nan"))


def share(k: int, n: int) -> Estimate:
    """Interval of a share of ``k`` in ``n`` (Wilson 1927).

    Examples
    --------
    >>> share(0, 20)
    Estimate(value=0.0, low=0.0, high=0.161...)
    """
    if n == 0:
        return NOTHING
    value = k / n
    centre = (value + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z * np.sqrt(value * (1 - value) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
    return Estimate(value, max(float(centre - half), 0.0), min(float(centre + half), 1.0))


def mean(values: NDArray[np.float64]) -> Estimate:
    """Interval of a mean, by its standard error."""
    if len(values) < 2:
        return NOTHING
    value, half = float(np.mean(values)), Z * float(np.std(values, ddof=1)) / np.sqrt(len(values))
    return Estimate(value, value - half, value + half)


def roc_auc(labels: Labels, probabilities: Values) -> Estimate:
    """Area under the ROC curve with the interval of DeLong et al. (1988), on the logit scale.

    The two variances come from midranks (Sun and Xu 2014), without a loop over pairs.
    """
    ones, zeros = probabilities[labels == 1], probabilities[labels != 1]
    m, n = len(ones), len(zeros)
    if m < 2 or n < 2:
        return NOTHING
    ranks = _midranks(np.concatenate([ones, zeros]))
    above = (ranks[:m] - _midranks(ones)) / n
    below = 1 - (ranks[m:] - _midranks(zeros)) / m
    area = float(above.mean())
    error = float(np.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n))
    if not 0 < area < 1:
        return Estimate(area, *_ends_of_a_perfect_area(area, m, n))
    logit, spread = np.log(area / (1 - area)), Z * error / (area * (1 - area))
    low, high = 1 / (1 + np.exp(-(logit - spread))), 1 / (1 + np.exp(-(logit + spread)))
    return Estimate(area, float(low), float(high))


def f1_score(tp: int, fp: int, fn: int, tn: int, seed: int = 0) -> Estimate:
    """F1 of decisions, by a bootstrap of the four counts."""
    n = tp + fp + fn + tn
    if tp + fp + fn == 0:
        return NOTHING
    drawn = np.random.default_rng(seed).multinomial(n, np.array([tp, fp, fn, tn]) / n, RESAMPLES)
    scores = 2 * drawn[:, 0] / np.maximum(2 * drawn[:, 0] + drawn[:, 1] + drawn[:, 2], 1)
    low, high = np.quantile(scores, [0.025, 0.975])
    return Estimate(2 * tp / (2 * tp + fp + fn), float(low), float(high))


def average_precision(labels: Labels, probabilities: Values, seed: int = 0) -> Estimate:
    """Area under the precision-recall curve, by a bootstrap with Poisson weights."""
    order = np.argsort(-probabilities, kind="stable")
    positive = (labels[order] == 1).astype(np.float64)
    if positive.sum() == 0:
        return NOTHING
    ends = np.append(np.diff(probabilities[order]) != 0, True)
    weights = np.random.default_rng(seed).poisson(1.0, (AREA_RESAMPLES, len(labels)))
    areas = [_area(positive, drawn, ends) for drawn in weights]
    low, high = np.quantile(areas, [0.025, 0.975])
    return Estimate(_area(positive, np.ones(len(labels)), ends), float(low), float(high))


def calibration_error(
    labels: Labels, probabilities: Values, bins: int = 15, seed: int = 0
) -> Estimate:
    """Expected calibration error over bins of equal width, by a bootstrap of each bin's error.

    The error is a sum of absolute values, so it is above 0 by chance alone: the lower end says
    whether it is larger than that.
    """
    n = len(labels)
    if n < 2:
        return NOTHING
    place = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    off = probabilities.astype(np.float64) - labels
    sums, squares = (np.bincount(place, weights, bins) for weights in (off, off * off))
    held = np.maximum(np.bincount(place, minlength=bins), 1)
    spread = np.sqrt(np.maximum(squares - sums * sums / held, 0))
    drawn = np.random.default_rng(seed).normal(0, 1, (RESAMPLES, bins)) * spread
    by_chance = np.abs(drawn).sum(axis=1) / n
    value = float(np.abs(sums).sum() / n)
    low = max(value - float(np.quantile(by_chance, 0.975)), 0.0)
    high = float(np.quantile(np.abs(sums + drawn).sum(axis=1) / n, 0.975))
    return Estimate(value, low, max(high, value))


def _midranks(values: Values) -> NDArray[np.float64]:
    """Rank of each value, from 1; equal ones share the mean of their ranks."""
    _, place, n = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(n) - (n - 1) / 2)[place]
    return ranks


def _area(positive: NDArray[np.float64], weights: NDArray[Any], ends: NDArray[np.bool_]) -> float:
    """Average precision of weighted rows, best first; ``ends`` marks the last of equal ones."""
    hits, all_rows = np.cumsum(weights * positive)[ends], np.cumsum(weights)[ends]
    gained = np.diff(hits, prepend=0)
    return float(np.sum(gained * hits / np.maximum(all_rows, 1)) / max(hits[-1], 1))


def _ends_of_a_perfect_area(area: float, m: int, n: int) -> tuple[float, float]:
    """Of an area of 0 or 1, which has no spread: as of a share of the smaller class."""
    few = share(round(area * min(m, n)), min(m, n))
    return few.low, few.high
