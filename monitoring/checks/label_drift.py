"""Whether the share of 1s among labels is still that of the training."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from configs.monitoring_config import DriftConfig
from models.artifact.profile import ReferenceProfile
from monitoring.checks.distances import chi_square
from monitoring.checks.results import Skipped

CHECK = "label_drift"


@dataclass(frozen=True)
class LabelDrift:
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

    def to_json(self) -> dict[str, Any]:
        """Give the report as JSON values."""
        return asdict(self) | {"summary": self.summary}


def compare(
    reference: ReferenceProfile, positives: int, n: int, fewest: int, config: DriftConfig
) -> LabelDrift | Skipped:
    """Compare labels of a window with those of the training; with fewer than ``fewest`` skip."""
    if n < fewest or not reference.labels:
        return Skipped(CHECK, f"{n:,} labels are too few; {fewest:,} are asked for")
    before, now = reference.positives / reference.labels, positives / n
    chance = chi_square(
        np.array([reference.positives, reference.labels - reference.positives]),
        np.array([positives, n - positives]),
    )
    moved = abs(now - before) >= config.label_share and chance <= config.false_discovery_rate
    return LabelDrift(before, now, n, chance, moved)
