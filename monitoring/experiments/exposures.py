"""The predictions of an A/B test as columns, and which of them count: pure functions.

A unit counts once, at its first matured exposure: of a user who comes ten times the ten outcomes
say little more than one. A prediction matures when it has the age of the horizon, whatever its
label is and whenever that came: else the arm whose labels come sooner would look better or worse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from models.deployment.plan import ExperimentPlan
from monitoring.experiments.sequential import Numbers

CHAMPION, CHALLENGER = 0, 1
CLIPPED = 0.01
"""Probabilities nearer to 0 or 1 count as this near in ``log_loss``, so that it is bounded."""

Flags = NDArray[np.bool_]
Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Exposures:
    """The receipts of a test with the label of each as it was known at the horizon; ``n`` rows.

    Parameters
    ----------
    unit
        Who was assigned, as a number, ``(n,)``.
    at_us
        When it was answered, in microseconds since 1970; ascending.
    phase
        Which share of the traffic the challenger had then: a place in the list of shares.
    is_challenger
        Whether the unit had been assigned to the challenger.
    probability, threshold
        Output of either arm and its threshold, ``(n, 2)``, champion first; NaN of one that did
        not score.
    label
        0 or 1; NaN where none was known at the horizon.
    is_over_budget, is_failed, is_degraded
        Whether the answer took too long, the challenger could not answer, or it was degraded.
    slices
        Category to the place of each row's word in its vocabulary, below 0 for none.
    """

    unit: Places
    at_us: Places
    phase: Places
    is_challenger: Flags
    probability: Numbers
    threshold: Numbers
    label: Numbers
    is_over_budget: Flags
    is_failed: Flags
    is_degraded: Flags
    slices: Mapping[str, Places] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.unit)

    def at(self, places: Places) -> Exposures:
        """Some of the rows."""
        columns = {name: part[places] for name, part in vars(self).items() if name != "slices"}
        slices = {name: words[places] for name, words in self.slices.items()}
        return replace(self, **columns, slices=slices)


def first_of_each(unit: Places) -> Places:
    """Give the places, ascending, at which each unit appears first.

    Examples
    --------
    >>> first_of_each(np.array([5, 5, 3, 5, 3, 9])).tolist()
    [0, 2, 5]
    """
    return np.sort(np.unique(unit, return_index=True)[1])


def matured_places(
    unit: Places, at_us: Places, label: Numbers, horizon_us: int, now_us: int
) -> Places:
    """Give the places, in the order in which they matured, of what counts for the metric.

    Parameters
    ----------
    unit, at_us
        Who, and when; ``(n,)``, ascending in time.
    label
        As it was known at the horizon; NaN where none was.

    Examples
    --------
    >>> unit, at, label = np.array([1, 1, 2]), np.array([0, 10, 20]), np.array([np.nan, 1.0, 0.0])
    >>> matured_places(unit, at, label, horizon_us=5, now_us=20).tolist()
    [1]
    """
    matured = np.flatnonzero((at_us + horizon_us <= now_us) & ~np.isnan(label))
    return matured[first_of_each(unit[matured])]


def losses(
    plan: ExperimentPlan, probability: Numbers, threshold: Numbers, label: Numbers
) -> Numbers:
    """Loss of each probability ``(…)`` by the plan's metric, between 0 and `largest_loss`.

    Examples
    --------
    >>> losses(ExperimentPlan(), np.array([0.8]), np.array([0.5]), np.array([1.0])).round(2)
    array([0.04])
    """
    if plan.metric == "brier":
        return np.asarray(np.square(probability - label))
    if plan.metric == "log_loss":
        right = np.where(label == 1, probability, 1 - probability)
        return np.asarray(-np.log(np.clip(right, CLIPPED, 1 - CLIPPED)))
    is_wrong = (probability >= threshold) != (label == 1)
    price = np.where(label == 1, plan.cost_false_negative, plan.cost_false_positive)
    loss = np.where(is_wrong, price if plan.metric == "cost" else 1.0, 0.0)
    return np.where(np.isnan(probability), np.nan, loss)


def largest_loss(plan: ExperimentPlan) -> float:
    """The most that a prediction can lose by the plan's metric."""
    if plan.metric == "cost":
        return max(plan.cost_false_positive, plan.cost_false_negative)
    return float(-np.log(CLIPPED)) if plan.metric == "log_loss" else 1.0
