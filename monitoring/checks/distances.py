"""How far two histograms over the same bins are apart: sizes of effects, and tests of chance.

Every function takes a reference and a current `Histogram` with equal bins, or their counts.
Missing and unseen values count as two more bins where categories of rows are compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.artifact.profile import Histogram

Numbers = NDArray[np.float64]

PSI_BINS = 10
"""The customary number: finer bins measure noise."""
SMOOTHING = 0.5
"""Added to every bin, so that an empty one is rare and not impossible (Jeffreys' prior)."""
FEWEST_EXPECTED = 5.0
"""Bins with fewer expected values are joined before a chi-square test (Cochran 1954)."""


def all_bins(histogram: Histogram) -> NDArray[np.int64]:
    """Counts of every bin, then of missing and of unseen values: ``(k + 2,)``."""
    return np.append(histogram.counts, [histogram.missing, histogram.unseen])


def coarse_bins(
    reference: Histogram, current: Histogram
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Join neighbouring bins of numbers until some ten have about equal shares of the reference.

    Categories stay as they are. Missing and unseen values remain bins of their own.
    """
    if reference.is_category:
        return all_bins(reference), all_bins(current)
    before = np.cumsum(reference.counts) - reference.counts
    group = (before * PSI_BINS) // max(reference.present, 1)
    _, group = np.unique(group, return_inverse=True)
    joined = [
        np.append(np.bincount(group, each.counts).astype(np.int64), [each.missing, each.unseen])
        for each in (reference, current)
    ]
    return joined[0], joined[1]


def shares(counts: NDArray[np.int64]) -> Numbers:
    """Share of each bin, none of them quite 0."""
    smoothed = counts + SMOOTHING
    parts: Numbers = smoothed / smoothed.sum()
    return parts


def psi(reference: Histogram, current: Histogram) -> float:
    """Population stability index, less what luck alone gives on average; at least 0.

    The index is the symmetric Kullback-Leibler divergence of some ten bins. For samples of ``n``
    and ``m`` from the same source it is about ``(bins - 1) (1/n + 1/m)`` (Yurdakul 2018).
    """
    counts = coarse_bins(reference, current)
    used = (counts[0] + counts[1]) > 0
    if not used.any() or not reference.n or not current.n:
        return 0.0
    before, now = (shares(each[used]) for each in counts)
    luck = (used.sum() - 1) * (1 / reference.n + 1 / current.n)
    return max(float(np.sum((now - before) * np.log(now / before)) - luck), 0.0)


def jensen_shannon(reference: Histogram, current: Histogram) -> float:
    """Jensen-Shannon distance (the root of the divergence) to base 2, from 0 to 1."""
    counts = coarse_bins(reference, current)
    if not reference.n or not current.n:
        return 0.0
    p, q = (each / each.sum() for each in counts)
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return float(np.sqrt(max(divergence, 0.0)))


def kolmogorov_smirnov(reference: Histogram, current: Histogram) -> float:
    """Largest distance of the two distribution functions of numbers, over the edges of bins."""
    if not reference.present or not current.present or not len(reference.edges):
        return 0.0
    return float(np.abs(_difference(reference, current)).max())


def wasserstein(reference: Histogram, current: Histogram) -> float:
    """Mean way that values have moved, in standard deviations of the reference.

    The area between the two distribution functions; exact where each bin is one value, and with
    straight lines between the edges of bins elsewhere. It is never less than the way of the mean,
    which tells of values beyond all bins. A constant reference has no deviation: its size, or 1,
    stands for it.
    """
    if not reference.present or not current.present:
        return 0.0
    scale = reference.deviation or abs(reference.mean) or 1.0
    low, high = min(reference.low, current.low), max(reference.high, current.high)
    places = np.concatenate([[low], np.clip(reference.edges, low, high), [high]])
    apart = np.abs(np.concatenate([[0.0], _difference(reference, current), [0.0]]))
    heights = (apart[1:] + apart[:-1]) / 2
    if reference.is_exact:
        heights[1:-1] = apart[2:-1]
    area = float(np.sum(heights * np.diff(places)))
    return max(area, abs(current.mean - reference.mean)) / scale


def chance(reference: Histogram, current: Histogram) -> float:
    """Probability of such a difference, or a larger one, between samples of the same source.

    Numbers: the test of Kolmogorov and Smirnov, or that of missing values if it is clearer.
    Categories: chi-square over words, missing and unseen ones. 1 where nothing can be said.
    """
    if not reference.n or not current.n:
        return 1.0
    if reference.is_category:
        return chi_square(all_bins(reference), all_bins(current))
    absent = chi_square(
        np.array([reference.present, reference.missing]),
        np.array([current.present, current.missing]),
    )
    # Two looks at one feature: the smaller is doubled (Bonferroni).
    return min(2 * min(_smirnov_chance(reference, current), absent), 1.0)


def chi_square(reference: NDArray[np.int64], current: NDArray[np.int64]) -> float:
    """Probability by the chi-square test of homogeneity; bins with few values are joined."""
    from scipy.stats import chi2

    table = np.array([reference, current], dtype=np.float64)
    rows = table.sum(axis=1, keepdims=True)
    if not rows.all():
        return 1.0
    expected = rows * table.sum(axis=0) / table.sum()
    few = expected.min(axis=0) < FEWEST_EXPECTED
    table = np.column_stack([table[:, ~few], table[:, few].sum(axis=1)])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return 1.0
    expected = rows * table.sum(axis=0) / table.sum()
    statistic = float(np.sum(np.square(table - expected) / expected))
    return float(chi2.sf(statistic, table.shape[1] - 1))


def false_discoveries(chances: Sequence[float]) -> Numbers:
    """Adjust chances of many tests ``(n,)``: those up to ``q`` hold a share of ``q`` false ones.

    The step-up procedure of Benjamini and Hochberg (1995).

    Examples
    --------
    >>> false_discoveries([0.01, 0.04, 0.03, 0.5]).round(3).tolist()
    [0.04, 0.053, 0.053, 0.5]
    """
    given = np.asarray(chances, dtype=np.float64)
    n, order = len(given), np.argsort(given)
    raised = given[order] * n / np.arange(1, n + 1)
    adjusted = np.empty(n)
    adjusted[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1.0)
    return adjusted


def _smirnov_chance(reference: Histogram, current: Histogram) -> float:
    from scipy.stats import kstwobign

    n, m = reference.present, current.present
    if not n or not m:
        return 1.0
    apart = kolmogorov_smirnov(reference, current)
    return float(kstwobign.sf(apart * np.sqrt(n * m / (n + m))))


def _difference(reference: Histogram, current: Histogram) -> Numbers:
    """Current less reference share of values below each edge ``(k - 1,)``."""
    below = [np.cumsum(each.counts)[:-1] / each.present for each in (reference, current)]
    apart: Numbers = below[1] - below[0]
    return apart


def _relative_entropy(p: Numbers, q: Numbers) -> float:
    some = p > 0
    return float(np.sum(p[some] * np.log2(p[some] / q[some])))
