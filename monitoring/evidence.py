"""What the exposures of an A/B test say: pure functions from columns to numbers that hold.

Every number may be looked at as often as one likes; see `sequential`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import log
from typing import Any, Literal

import numpy as np

from models.experiment import ExperimentPlan, Mode
from monitoring.exposures import (
    CHALLENGER,
    CHAMPION,
    Exposures,
    Flags,
    counted,
    first_of_each,
    largest_loss,
    losses,
)
from monitoring.sequential import (
    Numbers,
    Sequence as Interval,
    asymptotic,
    bernstein,
    effective_events,
    sample_ratio,
    split_effects,
)

State = Literal["clear", "open", "harm"]
GUARDRAILS = ("over_budget", "error", "degraded", "calibration")
PLANNED_UNITS = 10_000
"""Where the sequence of a split is narrowest: about what a difference of a few percent needs."""
PATH_POINTS = 120
"""So many points of a sequence are kept with a decision, to draw it."""


@dataclass(frozen=True)
class Bound:
    """A mean with the limits of its sequence at the last of ``n`` values; in the metric's unit."""

    mean: float
    lower: float
    upper: float
    n: int


@dataclass(frozen=True)
class Primary(Bound):
    """The challenger's loss less the champion's: below 0 the challenger is better.

    Parameters
    ----------
    champion, challenger
        Mean loss of either arm.
    events
        In a split: losses that differ, of the arm that has fewer; None when paired.
    is_ready
        Whether there is enough for the limits to hold.
    path
        ``(n, mean, lower, upper)`` along the way, thinned out.
    """

    champion: float | None
    challenger: float | None
    events: float | None
    is_ready: bool
    path: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Ratio:
    """Whether the units divide as they should, in one phase of the ramp.

    Parameters
    ----------
    among
        ``exposed``: all units. ``labelled``: those that count for the metric.
    log_evidence
        Largest log e-value so far; a mismatch from ``limit`` on.
    """

    among: Literal["exposed", "labelled"]
    phase: int
    share: float
    n_challenger: int
    n: int
    log_evidence: float
    limit: float

    @property
    def is_mismatch(self) -> bool:
        """Whether chance no longer explains it."""
        return self.log_evidence >= self.limit


@dataclass(frozen=True)
class Guardrail:
    """What the challenger may not worsen by more than the margin; ``champion`` may be unknown."""

    name: str
    champion: Bound | None
    challenger: Bound
    margin: float
    state: State


@dataclass(frozen=True)
class Evidence:
    """All that is known of a test at some time.

    Parameters
    ----------
    exposures, units
        Predictions of the test that can be evidence, and how many different units they have.
    counted
        Units that count for the metric.
    slices
        Words of the categories looked at apart: ``harm`` is a veto.
    """

    metric: str
    mode: Mode
    exposures: int
    units: int
    counted: int
    primary: Primary | None
    ratios: tuple[Ratio, ...]
    guardrails: tuple[Guardrail, ...]
    slices: tuple[Guardrail, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return asdict(self)


def weigh(
    exposures: Exposures,
    plan: ExperimentPlan,
    mode: Mode,
    shares: Sequence[float],
    now_us: int,
    words: Mapping[str, Sequence[str]] | None = None,
) -> Evidence:
    """Say what exposures amount to.

    Parameters
    ----------
    shares
        Of the challenger, in each phase.
    now_us
        What has not matured by then does not count.
    words
        Vocabulary of each category of ``exposures.slices``.
    """
    horizon_us = round(plan.label_horizon_s * 1_000_000)
    first = exposures.at(first_of_each(exposures.unit))
    mature = exposures.at(
        counted(exposures.unit, exposures.at_us, exposures.label, horizon_us, now_us)
    )
    lost = losses(plan, mature.probability, mature.threshold, mature.label[:, None])
    words = words or {}
    alpha = plan.guardrail_alpha / (len(GUARDRAILS) + sum(map(len, words.values())))
    return Evidence(
        metric=plan.metric,
        mode=mode,
        exposures=len(exposures),
        units=len(first),
        counted=len(mature),
        primary=_primary(mature, lost, plan, mode, np.asarray(shares)),
        ratios=tuple(_ratios(first, mature, shares, plan.ratio_alpha)),
        guardrails=tuple(_guardrails(first, mature, plan, mode, alpha)),
        slices=tuple(_slices(mature, lost, plan, mode, words, alpha)),
    )


def _primary(
    mature: Exposures, lost: Numbers, plan: ExperimentPlan, mode: Mode, shares: Numbers
) -> Primary | None:
    if mode == "paired":
        lost = lost[~np.isnan(lost).any(axis=1)]
        return _paired(lost, plan) if len(lost) else None
    own = _answered(mature, lost)
    if not len(own):
        return None
    arm, most = mature.is_challenger, largest_loss(plan)
    effects = split_effects(own / most, arm, shares[mature.phase])
    found = asymptotic(effects, plan.alpha, PLANNED_UNITS).scaled(most)
    events = np.minimum(effective_events(own, arm), effective_events(own, ~arm))
    enough = events >= plan.minimum_events
    means = [float(own[each].mean()) if each.any() else None for each in (~arm, arm)]
    return _as_primary(found, means, float(events[-1]), bool(enough[-1]), enough)


def _paired(lost: Numbers, plan: ExperimentPlan) -> Primary:
    most = largest_loss(plan)
    found = bernstein(lost[:, CHALLENGER] - lost[:, CHAMPION], plan.alpha, -most, most)
    means = [float(mean) for mean in lost.mean(axis=0)]
    return _as_primary(found, list(means), None, True, np.ones(len(lost), dtype=bool))


def _as_primary(
    found: Interval,
    means: Sequence[float | None],
    events: float | None,
    is_ready: bool,
    shown: Flags,
) -> Primary:
    n = len(found.mean)
    places = np.unique(np.geomspace(1, n, PATH_POINTS).astype(int)) - 1
    path = [
        (int(at) + 1, *(float(part[at]) for part in (found.mean, found.lower, found.upper)))
        for at in places[shown[places]]
    ]
    return Primary(
        mean=float(found.mean[-1]),
        lower=float(found.lower[-1]),
        upper=float(found.upper[-1]),
        n=n,
        champion=means[CHAMPION],
        challenger=means[CHALLENGER],
        events=events,
        is_ready=is_ready,
        path=tuple(path),
    )


def _ratios(
    first: Exposures, mature: Exposures, shares: Sequence[float], alpha: float
) -> Iterator[Ratio]:
    """Each phase spends less than the one before, so that any number of them spends alpha."""
    for phase, share in enumerate(shares, start=1):
        limit = -log(alpha / 2 / (phase * (phase + 1)))
        among: tuple[tuple[Literal["exposed", "labelled"], Exposures], ...] = (
            ("exposed", first),
            ("labelled", mature),
        )
        for name, rows in among:
            arm = rows.is_challenger[rows.phase == phase - 1]
            counts = np.cumsum(arm), np.arange(1, len(arm) + 1)
            evidence = float(sample_ratio(*counts, share).max(initial=0.0))
            yield Ratio(name, phase, share, int(arm.sum()), len(arm), evidence, limit)


def _guardrails(
    first: Exposures, mature: Exposures, plan: ExperimentPlan, mode: Mode, alpha: float
) -> Iterator[Guardrail]:
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


def _slices(
    mature: Exposures,
    lost: Numbers,
    plan: ExperimentPlan,
    mode: Mode,
    words: Mapping[str, Sequence[str]],
    alpha: float,
) -> Iterator[Guardrail]:
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
                own, arm = _answered(mature, lost), mature.is_challenger
                champion = _bound(own[inside & ~arm], alpha, 0.0, most)
                worse = _bound(own[inside & arm], alpha, 0.0, most)
            if worse is not None and (champion is not None or mode == "paired"):
                yield _guardrail(name, champion, worse, plan.slice_margin)


def _answered(mature: Exposures, lost: Numbers) -> Numbers:
    """Loss of the arm that answered: where the challenger could not, the champion did."""
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
