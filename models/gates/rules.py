"""What a version must hold before it may leave the stage None: pure functions and their decision.

===============  ==================================================================================
schema           its features are those of a stored version of the view, which can be served
parity           the native and the ONNX model give the same probabilities
log_loss, brier  not worse than the champion by a margin or more, shown on the same rows
slice            no part of the people is served worse, beyond a margin and beyond chance
calibration      probabilities mean what they say
latency, size    one row and the whole artifact stay within their budgets
===============  ==================================================================================

Nothing here knows a clock, a store or a registry; `runner` gathers what is judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np

from configs.training_config import GatesConfig
from feature_store.definitions.engine import FeatureMatrix
from models.base import Labels, Values
from models.evaluation.metrics import calibration_error, row_losses, squared_errors
from models.evaluation.paired import Difference, mean_difference
from models.evaluation.slices import words_of

SLICE = "slice "
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class GateResult:
    """What one gate says, in numbers and in one sentence.

    Parameters
    ----------
    value, limit
        What was measured and what is allowed; None where a gate does not measure.
    """

    gate: str
    passed: bool
    reason: str
    value: float | None = None
    limit: float | None = None


@dataclass(frozen=True)
class Decision:
    """Whether a version may leave the stage None, and why.

    Parameters
    ----------
    digest
        Of the artifact that was judged.
    champion, champion_digest
        Label and artifact of the version that it was compared with; None when none served.
    """

    digest: str
    champion: str | None
    champion_digest: str | None
    results: tuple[GateResult, ...]
    judged_at: datetime

    @property
    def passed(self) -> bool:
        """Whether all gates are open."""
        return not self.failed

    @property
    def failed(self) -> tuple[GateResult, ...]:
        """The gates that are closed."""
        return tuple(result for result in self.results if not result.passed)

    @property
    def refusals(self) -> str:
        """The closed gates with their reasons, in one line."""
        return "; ".join(f"{result.gate}: {result.reason}" for result in self.failed)

    @property
    def summary(self) -> str:
        """One line: how many gates passed, against whom."""
        against = f"against {self.champion}" if self.champion else "nothing to compare with"
        return f"{len(self.results) - len(self.failed)} of {len(self.results)} passed, {against}"

    def to_dict(self) -> dict[str, Any]:
        """Give the decision as JSON values; `from_dict` reads it back."""
        return asdict(self) | {"passed": self.passed, "judged_at": self.judged_at.isoformat()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Decision:
        """Read what `to_dict` wrote."""
        return cls(
            values["digest"],
            values["champion"],
            values["champion_digest"],
            tuple(GateResult(**result) for result in values["results"]),
            datetime.fromisoformat(values["judged_at"]),
        )

    def tags(self) -> dict[str, str]:
        """What MLflow shows of it; the record in PostgreSQL is what counts."""
        return {
            "gates": "passed" if self.passed else "failed",
            "gates_against": self.champion or "none",
            "gates_judged_at": self.judged_at.isoformat(timespec="seconds"),
            "gates_reason": self.refusals or self.summary,
        }


@dataclass(frozen=True)
class Comparison:
    """A candidate and the champion on the same rows.

    Parameters
    ----------
    champion
        Its label.
    about
        Which rows these are, for people.
    features
        All of the candidate's view, also those that it does not take.
    """

    champion: str
    about: str
    features: FeatureMatrix
    labels: Labels
    candidate_scores: Values
    champion_scores: Values


def schema_gate(fingerprint: str, refusal: str | None) -> GateResult:
    """Whether a stored version of the features fits; ``refusal`` is why not."""
    if refusal is None:
        return GateResult("schema", True, f"features {fingerprint} are stored and readable")
    return GateResult("schema", False, f"features {fingerprint} cannot be served: {refusal}")


def parity_gate(native: Values, onnx: Values, config: GatesConfig) -> GateResult:
    """Compare the probabilities of both engines, row by row."""
    difference = float(np.max(np.abs(native.astype(np.float64) - onnx)))
    limit = config.largest_parity_difference
    reason = (
        f"native and ONNX differ by up to {difference:.1e} on {len(onnx):,} rows; "
        f"allowed {limit:.0e}"
    )
    return GateResult("parity", difference <= limit, reason, difference, limit)


def calibration_gate(labels: Labels, scores: Values, config: GatesConfig) -> GateResult:
    """Compare probabilities with how often they come true."""
    error = calibration_error(labels, scores)
    limit = config.largest_calibration_error
    reason = f"expected calibration error {error:.4f} on {len(labels):,} rows; allowed {limit:g}"
    return GateResult("calibration", error <= limit, reason, error, limit)


def latency_gate(median_ms: float, calls: int, config: GatesConfig) -> GateResult:
    """Hold the time of a single row against its budget."""
    limit = config.largest_latency_ms
    reason = f"one row takes {median_ms:.3f} ms, the median of {calls:,}; allowed {limit:g} ms"
    return GateResult("latency", median_ms <= limit, reason, median_ms, limit)


def size_gate(n_bytes: int, config: GatesConfig) -> GateResult:
    """Hold the size of the artifact against its budget."""
    size_mb, limit = n_bytes / MEGABYTE, config.largest_artifact_mb
    reason = f"the artifact has {size_mb:.1f} MB; allowed {limit:g} MB"
    return GateResult("size", size_mb <= limit, reason, size_mb, limit)


def comparison_gates(comparison: Comparison | None, config: GatesConfig) -> Iterator[GateResult]:
    """Hold a candidate against the champion, over all rows and in each slice."""
    if comparison is None:
        for gate in ("log_loss", "brier", "slices"):
            yield GateResult(gate, True, "nothing to compare with: no version serves yet")
        return
    labels, ours, theirs = (
        comparison.labels,
        comparison.candidate_scores,
        comparison.champion_scores,
    )
    margins = {"log_loss": config.log_loss_margin, "brier": config.brier_margin}
    for name, losses in {"log_loss": row_losses, "brier": squared_errors}.items():
        differences = losses(labels, ours) - losses(labels, theirs)
        difference = mean_difference(differences, config.confidence)
        yield _no_worse(name, comparison, difference, margins[name], config)
    yield from _slice_gates(comparison, config)


def _no_worse(
    name: str, comparison: Comparison, found: Difference, margin: float, config: GatesConfig
) -> GateResult:
    """Non-inferiority: that the candidate is worse by the margin must be ruled out.

    Piaggio et al., Reporting of Noninferiority and Equivalence Randomized Trials (2012).
    """
    reason = (
        f"{_signed(found)} than {comparison.champion} (up to {found.high:+.4f} at "
        f"{config.confidence:.0%}; allowed below {margin:+g}) on {comparison.about}"
    )
    return GateResult(name, found.high < margin, reason, found.high, margin)


def _slice_gates(comparison: Comparison, config: GatesConfig) -> Iterator[GateResult]:
    """Veto where a slice is worse by more than the margin, and not by chance.

    The lower limits hold together: each one's error is divided among the slices (Bonferroni).
    """
    labels = comparison.labels
    differences = row_losses(labels, comparison.candidate_scores) - row_losses(
        labels, comparison.champion_scores
    )
    rows_of = slices_of(comparison.features, config.slices)
    judged = {
        name: rows for name, rows in rows_of.items() if rows.sum() >= config.slice_minimum_rows
    }
    confidence = 1 - (1 - config.confidence) / max(len(judged), 1)
    margin = config.slice_log_loss_margin
    for name, rows in judged.items():
        found = mean_difference(differences[rows], confidence)
        is_harmed = found.mean > margin and found.low > 0
        reason = (
            f"log loss {_signed(found)} than {comparison.champion} on {found.n:,} rows "
            f"({found.low:+.4f} to {found.high:+.4f}); a veto needs more than {margin:+g} and a "
            "lower limit above 0"
        )
        yield GateResult(SLICE + name, not is_harmed, reason, found.mean, margin)


def slices_of(features: FeatureMatrix, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The rows of each word of some categories, as masks ``(n,)`` by ``category=word``.

    Raises
    ------
    UnknownFeature, TrainingRefused
        If a name is not a feature, or not a category.
    """
    found = {}
    for name in names:
        words = words_of(features, name, "training.gates.slices")
        for word in features.schema.features[features.schema.position(name)].categories:
            found[f"{name}={word}"] = words == word
    return found


def _signed(found: Difference) -> str:
    return f"{abs(found.mean):.4f} {'worse' if found.mean > 0 else 'better'}"
