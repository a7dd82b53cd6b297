"""What a skew audit found: how often values differ, in which features, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

SHOWN = 5
"""Prediction ids that are shown of each cause."""


@dataclass(frozen=True)
class FeatureSkew:
    """How often a feature's logged value was another one, by cause."""

    name: str
    mismatches: int
    causes: Mapping[str, int]


@dataclass(frozen=True)
class SkewReport:
    """What became of the vectors of a window.

    Parameters
    ----------
    n
        Predictions whose vector was found or computed again.
    left_out
        Predictions that could not be, by reason.
    mismatches
        Predictions with at least one other value.
    causes
        Of those, by cause.
    features
        Each feature that differs anywhere, the most often first.
    examples
        Some prediction ids of each cause.
    """

    n: int
    left_out: Mapping[str, int]
    mismatches: int
    causes: Mapping[str, int]
    features: tuple[FeatureSkew, ...]
    examples: Mapping[str, tuple[str, ...]]

    @property
    def share(self) -> float:
        """Share of the predictions with another value."""
        return self.mismatches / self.n if self.n else 0.0

    @property
    def summary(self) -> str:
        """One line for people."""
        if not self.mismatches:
            return f"No skew: {self.n:,} vectors are those of the offline store, to the bit"
        causes = ", ".join(f"{cause} {n:,}" for cause, n in self.causes.items())
        names = ", ".join(each.name for each in self.features[:5])
        return f"{self.mismatches:,} of {self.n:,} vectors differ ({causes}): {names}"

    def to_json(self) -> dict[str, Any]:
        """Give the report as JSON values."""
        return asdict(self) | {"share": self.share, "summary": self.summary}

    def merged(self, other: SkewReport) -> SkewReport:
        """Both together."""
        features = [*self.features, *other.features]
        names = dict.fromkeys(each.name for each in features)
        joined = [_joined(name, [each for each in features if each.name == name]) for name in names]
        return SkewReport(
            self.n + other.n,
            _added(self.left_out, other.left_out),
            self.mismatches + other.mismatches,
            _added(self.causes, other.causes),
            tuple(sorted(joined, key=lambda each: -each.mismatches)),
            {**other.examples, **self.examples},
        )


NOTHING = SkewReport(0, {}, 0, {}, (), {})


def _added(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


def _joined(name: str, parts: Sequence[FeatureSkew]) -> FeatureSkew:
    causes: dict[str, int] = {}
    for part in parts:
        causes = _added(causes, part.causes)
    return FeatureSkew(name, sum(part.mismatches for part in parts), causes)
