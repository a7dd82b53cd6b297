"""Whether a training repeated from its record came out the same, and if not, what differs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from models.artifact.artifact import ModelArtifact
from models.errors import ModelError
from models.gates.held_out import RecordedRows, recorded
from models.lineage import Provenance, code_version, git_commit, package_versions
from models.registry.versions import ModelRegistry, ModelVersion

TOLERANCE = 1e-9
"""Equal bits give equal metrics; this leaves room for the way through JSON alone."""
SHORT = 12


class NotReproduced(ModelError):
    """A training was repeated with another result."""


@dataclass(frozen=True)
class Reproduction:
    """A training and its repetition.

    Parameters
    ----------
    differences
        What differed this time: data, code, packages, machine.
    metrics
        Name to the recorded and the present value.
    is_same_model
        Whether both models give every held-out row the same bits.
    """

    label: str
    differences: tuple[str, ...]
    metrics: Mapping[str, tuple[float, float]]
    is_same_model: bool

    @property
    def largest_difference(self) -> float:
        """Of all metrics."""
        return max(abs(then - now) for then, now in self.metrics.values())

    def refuse_different(self) -> None:
        """Raise unless all metrics are equal.

        Raises
        ------
        NotReproduced
            If one is not; the message gives it, and all that differs.
        """
        if self.largest_difference <= TOLERANCE:
            return
        name = max(
            self.metrics, key=lambda each: abs(self.metrics[each][0] - self.metrics[each][1])
        )
        then, now = self.metrics[name]
        why = "; ".join(self.differences) or "nothing that is recorded; is it the same machine?"
        raise NotReproduced(
            f"{self.label} was not reproduced: {name} was {then!r} and is {now!r} now. "
            f"What differs: {why}"
        )


def recorded_metrics(registry: ModelRegistry, version: ModelVersion) -> dict[str, float]:
    """The metrics that MLflow has of the run of a version."""
    run = registry.api.get("runs/get", run_id=version.run_id)["run"]
    return {each["key"]: float(each["value"]) for each in run["data"].get("metrics", [])}


def common(then: Mapping[str, float], now: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """The metrics that both have.

    Raises
    ------
    NotReproduced
        If there are none: nothing can be proven then.
    """
    both = {name: (then[name], now[name]) for name in now if name in then}
    if not both:
        raise NotReproduced("MLflow has none of the metrics of this version; was its run deleted?")
    return both


def differences(
    version: ModelVersion, artifact: ModelArtifact, rows: RecordedRows, here: Provenance
) -> Iterator[str]:
    """Say in one phrase each what differs from when a version was trained."""
    digest = recorded(artifact, "dataset_digest")
    if not rows.is_same:
        yield (
            f"data: digest {digest[:SHORT]}… → {rows.dataset.digest[:SHORT]}… "
            f"({rows.dataset.n_samples:,} rows now)"
        )
    tags = version.tags
    if tags.get("code_version") != code_version():
        yield f"code: commit {tags.get('git_commit', 'unknown')} → {git_commit()}"
    then, now = json.loads(tags.get("packages", "{}")), package_versions()
    for name in sorted({*then, *now}):
        if then.get(name) != now.get(name):
            yield f"package {name}: {then.get(name, 'none')} → {now.get(name, 'none')}"
    for name, value in (
        ("python", here.python),
        ("machine", here.machine),
        ("threads", str(here.threads)),
    ):
        if tags.get(name) != value:
            yield f"{name}: {tags.get(name, 'not recorded')} → {value}"
