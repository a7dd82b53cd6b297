"""Drift: whether rows and labels still look like those that the model was trained on. Pure.

A feature has drifted when it moved by a size that matters *and* chance does not explain it. The
size keeps large windows from crying wolf, since any difference is significant in enough rows; the
test keeps small ones from it. Over all features the share of false alarms is held down.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from configs.monitoring_config import DriftConfig
from models.artifact.profile import Histogram, Profile, ReferenceProfile
from monitoring.checks import distances
from monitoring.checks.results import CheckReport, Skipped

CHECK = "drift"
LABEL_CHECK = "label_drift"
USUAL = DriftConfig()


@dataclass(frozen=True)
class FeatureDrift:
    """How one feature has moved.

    Parameters
    ----------
    psi, jensen_shannon, wasserstein, kolmogorov_smirnov
        Sizes of the difference; the last two are 0 for categories. See
        `monitoring.checks.distances`.
    chance
        Probability of such a difference by luck, adjusted for the number of features.
    missing, unseen
        Shares of missing values before and now, and of words now that the model never saw.
    importance
        Share of the feature in what the model learned; NaN where that is not known.
    reasons
        What moved too far; empty when the feature has not drifted.
    """

    name: str
    psi: float
    jensen_shannon: float
    wasserstein: float
    kolmogorov_smirnov: float
    chance: float
    missing: tuple[float, float]
    unseen: float
    importance: float
    reasons: tuple[str, ...]

    @property
    def has_drifted(self) -> bool:
        """Whether it moved so far that it matters, and not by luck."""
        return bool(self.reasons)


@dataclass(frozen=True)
class DriftReport(CheckReport):
    """How some rows differ from a reference.

    Parameters
    ----------
    n_reference, n_current
        How many rows are compared.
    features
        Each feature; those that drifted first, by importance.
    scores
        The model's probabilities; None where only features are compared.
    weighted_share
        Importance of the drifted features together; their share where importance is not known.
    """

    n_reference: int
    n_current: int
    features: tuple[FeatureDrift, ...]
    scores: FeatureDrift | None
    weighted_share: float
    is_harmful: bool

    @property
    def drifted(self) -> tuple[FeatureDrift, ...]:
        """The features that have drifted."""
        return tuple(each for each in self.features if each.has_drifted)

    @property
    def has_drifted(self) -> bool:
        """Whether any feature, or the scores, have drifted."""
        return bool(self.drifted) or (self.scores is not None and self.scores.has_drifted)

    @property
    def summary(self) -> str:
        """One line for people."""
        if not self.has_drifted:
            return f"No drift: {self.n_current:,} rows look like the {self.n_reference:,} before"
        names = ", ".join(f"{each.name} ({each.reasons[0]})" for each in self.drifted[:5])
        more = f" and {len(self.drifted) - 5} more" if len(self.drifted) > 5 else ""
        scores = "; the scores have moved too" if self.scores and self.scores.has_drifted else ""
        return (
            f"{len(self.drifted)} of {len(self.features)} features drifted "
            f"({self.weighted_share:.0%} by importance): {names}{more}{scores}"
        )


@dataclass(frozen=True)
class LabelDrift(CheckReport):
    """The share of 1s before and now.

    Parameters
    ----------
    n
        Labels now.
    chance
        Probability of such a difference by luck.
    """

    before: float
    now: float
    n: int
    chance: float
    has_drifted: bool

    @property
    def summary(self) -> str:
        """One line for people."""
        says = "moved" if self.has_drifted else "is as it was"
        return (
            f"The share of 1s {says}: {self.before:.1%} in training, {self.now:.1%} of {self.n:,}"
        )


def compare(
    reference: ReferenceProfile,
    features: Profile,
    scores: Histogram | None = None,
    config: DriftConfig = USUAL,
) -> DriftReport | Skipped:
    """Compare rows, counted into the bins of the reference, with it.

    Parameters
    ----------
    scores
        The model's probabilities for the rows, in the bins of the reference's.
    """
    if features.n < config.min_rows:
        return Skipped(
            CHECK,
            f"{features.n:,} rows are too few to compare; 'drift.min_rows' asks for "
            f"{config.min_rows:,}",
        )
    moved = compare_columns(reference.features, features, reference.importance, config)
    weighted = sum(each.importance for each in moved if each.has_drifted)
    if not reference.importance:
        weighted = sum(each.has_drifted for each in moved) / max(len(moved), 1)
    of_scores = None
    if scores is not None and scores.n:
        pair = Profile((reference.scores,)), Profile((scores,))
        [of_scores] = compare_columns(*pair, {}, config)
    return DriftReport(
        n_reference=reference.features.n,
        n_current=features.n,
        features=tuple(sorted(moved, key=lambda each: (not each.has_drifted, -_weight(each)))),
        scores=of_scores,
        weighted_share=float(weighted),
        is_harmful=bool(
            weighted >= config.harmful_share and of_scores is not None and of_scores.has_drifted
        ),
    )


def compare_columns(
    reference: Profile, current: Profile, importance: Any, config: DriftConfig
) -> list[FeatureDrift]:
    """Compare each column with its reference; chances are adjusted for their number."""
    pairs = list(zip(reference.columns, current.columns, strict=True))
    chances = distances.false_discoveries([distances.chance(*pair) for pair in pairs])
    unknown = float("nan") if not importance else 0.0
    return [
        _measure(before, now, float(chance), importance.get(before.name, unknown), config)
        for (before, now), chance in zip(pairs, chances, strict=True)
    ]


def compare_labels(
    reference: ReferenceProfile, positives: int, n: int, fewest: int, config: DriftConfig
) -> LabelDrift | Skipped:
    """Compare labels of a window with those of the training; with fewer than ``fewest`` skip."""
    if n < fewest or not reference.labels:
        return Skipped(LABEL_CHECK, f"{n:,} labels are too few; {fewest:,} are asked for")
    before, now = reference.positives / reference.labels, positives / n
    chance = distances.chi_square(
        np.array([reference.positives, reference.labels - reference.positives]),
        np.array([positives, n - positives]),
    )
    moved = abs(now - before) >= config.label_share and chance <= config.false_discovery_rate
    return LabelDrift(before, now, n, chance, moved)


def _measure(
    before: Histogram, now: Histogram, chance: float, importance: float, config: DriftConfig
) -> FeatureDrift:
    n, m = max(before.n, 1), max(now.n, 1)
    drift = FeatureDrift(
        name=before.name,
        psi=distances.psi(before, now),
        jensen_shannon=distances.jensen_shannon(before, now),
        wasserstein=0.0 if before.is_category else distances.wasserstein(before, now),
        kolmogorov_smirnov=(
            0.0 if before.is_category else distances.kolmogorov_smirnov(before, now)
        ),
        chance=chance,
        missing=(before.missing / n, now.missing / m),
        unseen=now.unseen / m,
        importance=importance,
        reasons=(),
    )
    if chance > config.false_discovery_rate:
        return drift
    reasons = tuple(_reasons(drift, before.unseen / n, config))
    return FeatureDrift(**(vars(drift) | {"reasons": reasons}))


def _reasons(drift: FeatureDrift, unseen_before: float, config: DriftConfig) -> Iterator[str]:
    missing_before, missing_now = drift.missing
    if abs(missing_now - missing_before) >= config.missing_share:
        yield f"missing {missing_before:.0%} → {missing_now:.0%}"
    if drift.unseen - unseen_before >= config.unseen_share:
        yield f"{drift.unseen:.1%} unseen words"
    if drift.psi >= config.psi:
        yield f"PSI {drift.psi:.2f}"


def _weight(drift: FeatureDrift) -> float:
    return drift.psi if np.isnan(drift.importance) else drift.importance
