"""What the exposures of an A/B test say: pure functions from columns to numbers that hold.

Every number may be looked at as often as one likes; see `sequential`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import log
from typing import Any, Literal

import numpy as np

from models.deployment.plan import ExperimentPlan, Mode
from monitoring.experiments.exposures import (
    CHALLENGER,
    CHAMPION,
    Exposures,
    Flags,
    first_of_each,
    largest_loss,
    losses,
    matured_places,
)
from monitoring.experiments.guardrails import (
    GUARDRAILS,
    Bound,
    Guardrail,
    answered_losses,
    guardrails,
    slices,
)
from monitoring.experiments.sequential import (
    Numbers,
    Sequence as Interval,
    asymptotic,
    bernstein,
    effective_events,
    sample_ratio,
    split_effects,
)

PLANNED_UNITS = 10_000
"""Where the sequence of a split is narrowest: about what a difference of a few percent needs."""
PATH_POINTS = 120
"""So many points of a sequence are kept with a decision, to draw it."""


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
        matured_places(exposures.unit, exposures.at_us, exposures.label, horizon_us, now_us)
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
        guardrails=tuple(guardrails(first, mature, plan, mode, alpha)),
        slices=tuple(slices(mature, lost, plan, mode, words, alpha)),
    )


def _primary(
    mature: Exposures, lost: Numbers, plan: ExperimentPlan, mode: Mode, shares: Numbers
) -> Primary | None:
    if mode == "paired":
        lost = lost[~np.isnan(lost).any(axis=1)]
        return _paired_primary(lost, plan) if len(lost) else None
    own = answered_losses(mature, lost)
    if not len(own):
        return None
    arm, most = mature.is_challenger, largest_loss(plan)
    effects = split_effects(own / most, arm, shares[mature.phase])
    found = asymptotic(effects, plan.alpha, PLANNED_UNITS).scale(most)
    events = np.minimum(effective_events(own, arm), effective_events(own, ~arm))
    enough = events >= plan.minimum_events
    means = [float(own[each].mean()) if each.any() else None for each in (~arm, arm)]
    return _as_primary(found, means, float(events[-1]), bool(enough[-1]), enough)


def _paired_primary(lost: Numbers, plan: ExperimentPlan) -> Primary:
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
