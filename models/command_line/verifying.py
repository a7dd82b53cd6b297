"""``verify``: whether artifacts are whole, and registry, aliases and records agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from configs.errors import FTIError, reason_of
from configs.output import Answer, Table
from configs.settings import Settings
from models import connect
from models.artifact.cache import ArtifactCache
from models.command_line.versions import decision_table
from models.deployment.record import Deployment
from models.deployment.store import DeploymentStore
from models.errors import ArtifactError
from models.gates.decision_store import DecisionStore
from models.lifecycle.requests import OURS, recorded_state
from models.onnx.scorer import OnnxScorer
from models.registry.versions import ModelRegistry, ModelVersion

EXAMPLE_TOLERANCE = 1e-5
"""The same model answers its example within this on any processor."""


def verify(settings: Settings) -> tuple[Answer, bool]:
    """Check every version and what is deployed; whether all is well comes second.

    Artifacts are fetched from MLflow, not taken from the local cache.
    """
    registry, store = connect.model_registry(settings), connect.deployment_store(settings)
    decisions, versions = connect.decision_store(settings), registry.versions()
    findings = [
        *_artifact_findings(connect.artifact_cache(settings), versions),
        *_record_findings(registry, store, versions),
        *_gate_findings(decisions, store, versions),
    ]
    data = {
        "versions_checked": len(versions),
        "findings": [{"version": label, "finding": finding} for label, finding in findings],
    }
    state = "findings" if findings else "all is well"
    title = f"{len(versions):,} versions of {registry.model_name} checked: {state}"
    columns = ("version", "finding") if findings else ()
    return Answer(data, [Table(title, columns, findings)]), not findings


def _artifact_findings(
    artifacts: ArtifactCache, versions: list[ModelVersion]
) -> Iterator[tuple[str, str]]:
    for version in versions:
        with TemporaryDirectory() as folder:
            fresh = ArtifactCache(Path(folder), artifacts.fetch)
            try:
                _try(fresh, version)
            except FTIError as error:
                yield version.label, reason_of(error)


def _try(artifacts: ArtifactCache, version: ModelVersion) -> None:
    """Fetch an artifact, check every hash, and let the model answer its example."""
    artifact = artifacts.get(version.artifact_uri, version.digest)
    vectors, expected = artifact.example()
    scorer = OnnxScorer(artifact.read("model.onnx"), len(artifact.features))
    difference = float(np.max(np.abs(scorer.predict(vectors) - expected)))
    if not difference <= EXAMPLE_TOLERANCE:
        raise ArtifactError(f"it answers its example with a difference of {difference:.2g}")
    stored = artifact.feature_schema.definition_fingerprint
    if stored != version.fingerprint:
        raise ArtifactError(
            f"its tag says features {version.fingerprint}, the artifact is of {stored}"
        )


def _record_findings(
    registry: ModelRegistry, store: DeploymentStore, versions: list[ModelVersion]
) -> Iterator[tuple[str, str]]:
    """Where the registry shows otherwise than was recorded."""
    deployment = store.current()
    expected, aliases = (
        recorded_state(versions, deployment, store.stage_history()),
        registry.aliases(),
    )
    for version in versions:
        stage = expected.stages[version.version]
        for shown, value in (("tag stage", version.stage), ("stage", version.native_stage)):
            if value != stage:
                yield version.label, f"MLflow's {shown} is {value}; recorded is {stage}"
    labels = {version.version: version.label for version in versions}
    for alias in OURS:
        is_at, belongs = aliases.get(alias), expected.aliases.get(alias)
        if is_at != belongs:
            here, there = (labels.get(v or 0, v and f"version {v}") for v in (is_at, belongs))
            yield here or there or alias, f"alias {alias} points to {here}; recorded is {there}"
    yield from _arm_findings(deployment, {version.version: version for version in versions})


def _arm_findings(
    deployment: Deployment | None, versions: dict[int, ModelVersion]
) -> Iterator[tuple[str, str]]:
    for arm in deployment.arms if deployment else ():
        version = versions.get(arm.version)
        if version is None:
            yield arm.label, "it is deployed, but is no longer registered"
        elif version.digest != arm.digest:
            yield (
                arm.label,
                f"deployed is the artifact {arm.digest[:12]}…, registered {version.digest[:12]}…",
            )


def _gate_findings(
    decisions: DecisionStore, store: DeploymentStore, versions: list[ModelVersion]
) -> Iterator[tuple[str, str]]:
    """Versions that left the stage None without having passed or been forced."""
    forced = {override.version for override in store.overrides()}
    for version in versions:
        if version.stage in {"None", "Archived"} or version.version in forced:
            continue
        if not any(decision.passed for decision in decisions.of(version)):
            yield version.label, f"it is in {version.stage}, but never passed the gates"


def judge_version(label: str, settings: Settings) -> tuple[Answer, bool]:
    """Judge a version against what serves, and keep that; whether it passed comes second."""
    version = connect.model_registry(settings).find(label)
    champion = connect.champion_of(settings)
    decision = connect.admission(settings).judge_and_record(version, champion)
    title = f"{label}: {'passed' if decision.passed else 'failed'}; {decision.summary}"
    results = [asdict(result) for result in decision.results]
    return Answer(decision.to_dict(), [decision_table(title, results)]), decision.passed
