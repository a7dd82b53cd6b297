"""What a challenger may not worsen, and slices that it may not serve worse: bounded means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from models.deployment.plan import ExperimentPlan, Mode
from monitoring.experiments.exposures import CHALLENGER, CHAMPION, Exposures, largest_loss
from monitoring.experiments.sequential import Numbers, bernstein

State = Literal["clear", "open", "harm"]
GUARDRAILS = ("over_budget", "error", "degraded", "calibration")


@dataclass(frozen=True)
class Bound:
    """A mean with the limits of its sequence at the last of ``n`` values; in the metric's unit."""

    mean: float
    lower: float
    upper: float
    n: int


@dataclass(frozen=True)
class Guardrail:
    """What the challenger may not worsen by more than the margin; ``champion`` may be unknown."""

    name: str
    champion: Bound | None
    challenger: Bound
    margin: float
    state: State


def guardrails(
    first: Exposures, mature: Exposures, plan: ExperimentPlan, mode: Mode, alpha: float
) -> Iterator[Guardrail]:
    """Hold the challenger against the champion in all that the metric does not say.

    Parameters
    ----------
    first, mature
        First exposures of all units; the exposures that count for the metric.
    alpha
        Chance of a false alarm of each guardrail.
    """
    arms = ~first.is_challenger, first.is_challenger
    for name, happened, margin in (
        ("over_budget", first.is_over_budget, plan.over_budget_margin),
        ("degraded", first.is_degraded, plan.degraded_margin),
    ):
        champion, challenger = (_bound(happened[arm], alpha) for arm in arms)
        if champion is not None and challenger is not None:
            yield _guardrail(name, champion, challenger, margin)
    # What the champion cannot answer has no receipt. Paired, the challenger is always asked.
    asked = np.ones(len(first), dtype=bool) if mode == "paired" else first.is_challenger
    failed = _bound(first.is_failed[asked], alpha)
    if failed is not None:
        yield _guardrail("error", None, failed, plan.error_margin)
    biases = [_bias(mature, arm, mode, alpha) for arm in (CHAMPION, CHALLENGER)]
    if biases[0] is not None and biases[1] is not None:
        yield _guardrail("calibration", biases[0], biases[1], plan.calibration_margin)


def _bias(mature: Exposures, arm: int, mode: Mode, alpha: float) -> Bound | None:
    """How far the mean probability of an arm is from the share of label 1, in absolute value."""
    bias = mature.probability[:, arm] - mature.label
    if mode == "split":
        bias = bias[mature.is_challenger == (arm == CHALLENGER)]
    found = _bound(bias[~np.isnan(bias)], alpha, -1.0)
    if found is None:
        return None
    nearest = max(found.lower, -found.upper, 0.0)
    return Bound(abs(found.mean), nearest, max(-found.lower, found.upper), found.n)


def slices(
    mature: Exposures,
    lost: Numbers,
    plan: ExperimentPlan,
    mode: Mode,
    words: Mapping[str, Sequence[str]],
    alpha: float,
) -> Iterator[Guardrail]:
    """Hold every slice with enough units against the plan's margin; harm is a veto."""
    most = largest_loss(plan)
    for category, vocabulary in words.items():
        for place, word in enumerate(vocabulary):
            inside = mature.slices[category] == place
            if inside.sum() < plan.slice_minimum:
                continue
            name = f"{category}={word}"
            if mode == "paired":
                both = lost[inside & ~np.isnan(lost).any(axis=1)]
                worse = _bound(both[:, CHALLENGER] - both[:, CHAMPION], alpha, -most, most)
                champion = None
            else:
                own, arm = answered_losses(mature, lost), mature.is_challenger
                champion = _bound(own[inside & ~arm], alpha, 0.0, most)
                worse = _bound(own[inside & arm], alpha, 0.0, most)
            if worse is not None and (champion is not None or mode == "paired"):
                yield _guardrail(name, champion, worse, plan.slice_margin)


def answered_losses(mature: Exposures, lost: Numbers) -> Numbers:
    """Loss ``(n,)`` of the arm that answered; the champion did where the challenger could not."""
    answering = np.where(mature.is_challenger & ~mature.is_failed, CHALLENGER, CHAMPION)
    return lost[np.arange(len(lost)), answering]


def _bound(values: Any, alpha: float, low: float = 0.0, high: float = 1.0) -> Bound | None:
    if not len(values):
        return None
    numbers = np.asarray(values, dtype=np.float64)
    found = bernstein(numbers, alpha, low, high)
    return Bound(
        float(numbers.mean()), float(found.lower[-1]), float(found.upper[-1]), len(numbers)
    )


def _guardrail(name: str, champion: Bound | None, challenger: Bound, margin: float) -> Guardrail:
    """Harm is what both limits say together; clear is what nothing speaks against."""
    mean, upper = (champion.mean, champion.upper) if champion else (0.0, 0.0)
    state: State = "open"
    if challenger.lower > upper + margin:
        state = "harm"
    elif challenger.mean <= mean + margin:
        state = "clear"
    return Guardrail(name, champion, challenger, margin, state)
