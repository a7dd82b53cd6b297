"""``compare``, ``verify``, ``judge``, ``watch``: versions beside others, records and gates."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer

from configs.command_line import AsJson, Debug
from configs.errors import FTIError, reason_of
from configs.output import Display, Table, show
from configs.settings import Settings, load_settings
from feature_store.definitions.schema_changes import schema_changes
from infrastructure.errors import ServiceError
from infrastructure.servers.ports import HIGHEST, LOOPBACK, holder, listen
from models import connect
from models.artifact.artifact import ModelArtifact
from models.artifact.cache import ArtifactCache
from models.command_line.versions import Version, decision_table, lineage_of, settings_in
from models.deployment.record import Deployment
from models.deployment.store import DeploymentStore
from models.errors import ArtifactError
from models.evaluation.paired import Difference, metric_differences
from models.gates.admission import DecisionStore
from models.gates.held_out import split_of
from models.gates.runner import compare as compare_models
from models.lifecycle.requests import OURS, recorded_state
from models.lifecycle.watch import run_watch
from models.onnx.scorer import OnnxScorer
from models.registry.versions import ModelRegistry, ModelVersion

EXAMPLE_TOLERANCE = 1e-5
"""The same model answers its example within this on any processor."""


commands = typer.Typer()


@commands.command(epilog="Example: python -m models compare income-xgb-v2 income-xgb-v3")
def compare(first: Version, second: Version, as_json: AsJson = False, debug: Debug = False) -> None:
    """Compare two versions: metrics on the same rows with intervals, settings, packages."""
    settings = load_settings()
    registry, artifacts = connect.model_registry(settings), connect.artifact_cache(settings)
    versions = registry.find(first), registry.find(second)
    one, other = (artifacts.get(each.artifact_uri, each.digest) for each in versions)
    about, found = _metrics(one, other, versions, settings)
    data = {
        "first": first,
        "second": second,
        "rows": about,
        "metrics": {
            name: {"first": a, "second": b, "difference": d.mean, "low": d.low, "high": d.high}
            for name, (a, b, d) in found.items()
        },
        "settings": _changes(settings_in(one), settings_in(other)),
        "features": schema_changes(one.feature_schema.meaning, other.feature_schema.meaning),
        "packages": _changes(one.config.get("packages", {}), other.config.get("packages", {})),
        "lineage": _changes(*map(_lineage, versions, (one, other))),
    }
    show(Display(data, _tables(data)), as_json=as_json)


def _metrics(
    one: ModelArtifact,
    other: ModelArtifact,
    versions: tuple[ModelVersion, ModelVersion],
    settings: Settings,
) -> tuple[str, dict[str, tuple[float, float, Difference]]]:
    history = connect.history(settings)
    drawn = history.rows(other, versions[1].trained_at)
    test = split_of(other, drawn.rows).test
    at_least = settings.training.gates.minimum_rows
    found = compare_models(other, one, versions[0].label, test, drawn.rows, history, at_least)
    first, second = found.champion_scores, found.candidate_scores
    return found.about, metric_differences(
        found.labels, (first, one.threshold), (second, other.threshold)
    )


def _changes(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What differs: name to both values."""
    return {
        name: [first.get(name), second.get(name)]
        for name in sorted({*first, *second})
        if first.get(name) != second.get(name)
    }


def _lineage(version: ModelVersion, artifact: ModelArtifact) -> dict[str, Any]:
    """The lineage without what the settings have already."""
    lineage = lineage_of(version, artifact)
    return {name: lineage[name] for name in lineage if name not in {"start", "end", "seed"}}


def _tables(data: Mapping[str, Any]) -> list[Table]:
    first, second = data["first"], data["second"]
    metrics = [(name, *values.values()) for name, values in data["metrics"].items()]
    columns = ("metric", first, second, "difference", "2.5 %", "97.5 %")
    tables = [Table(f"On {data['rows']}", columns, metrics)]
    for name in ("settings", "packages", "lineage"):
        rows = [(each, *map(_text, values)) for each, values in data[name].items()]
        title = f"{name.capitalize()} that differ" + ("" if rows else ": none")
        tables.append(Table(title, (name, first, second) if rows else (), rows))
    changes = [(change,) for change in data["features"]]
    title = "Features that differ" + ("" if changes else ": none")
    tables.insert(2, Table(title, ("change",) if changes else (), changes))
    return tables


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, list | dict) else value


@commands.command(epilog="Example: python -m models verify; exits with 1 on findings")
def verify(as_json: AsJson = False, debug: Debug = False) -> None:
    """Check artifacts by hash and example, and that registry, aliases and records agree."""
    settings = load_settings()
    registry = connect.model_registry(settings)
    versions = registry.versions()
    findings = find_faults(registry, versions, settings)
    data = {
        "versions_checked": len(versions),
        "findings": [{"version": label, "finding": finding} for label, finding in findings],
    }
    state = "findings" if findings else "all is well"
    title = f"{len(versions):,} versions of {registry.model_name} checked: {state}"
    columns = ("version", "finding") if findings else ()
    show(Display(data, [Table(title, columns, findings)]), as_json=as_json)
    if findings:
        raise typer.Exit(1)


def find_faults(
    registry: ModelRegistry, versions: list[ModelVersion], settings: Settings
) -> list[tuple[str, str]]:
    """Check every version and what is deployed; return each label with what is wrong.

    Artifacts are fetched from MLflow, not taken from the local cache.
    """
    store = connect.deployment_store(settings)
    return [
        *_artifact_findings(connect.artifact_cache(settings), versions),
        *_record_findings(registry, store, versions),
        *_gate_findings(connect.decision_store(settings), store, versions),
    ]


def _artifact_findings(
    artifacts: ArtifactCache, versions: list[ModelVersion]
) -> Iterator[tuple[str, str]]:
    for version in versions:
        with TemporaryDirectory() as folder:
            fresh = ArtifactCache(Path(folder), artifacts.fetch)
            try:
                _try_artifact(fresh, version)
            except FTIError as error:
                yield version.label, reason_of(error)


def _try_artifact(artifacts: ArtifactCache, version: ModelVersion) -> None:
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


@commands.command(epilog="Example: python -m models judge income-xgb-v3; exits with 1 if it fails")
def judge(version: Version, as_json: AsJson = False, debug: Debug = False) -> None:
    """Judge a version by the gates, against what serves now; the decision is kept."""
    settings = load_settings()
    found, champion = connect.model_registry(settings).find(version), connect.champion_of(settings)
    decision = connect.admission(settings).judge_and_record(found, champion)
    title = f"{version}: {'passed' if decision.passed else 'failed'}; {decision.summary}"
    results = [asdict(result) for result in decision.results]
    show(Display(decision.to_dict(), [decision_table(title, results)]), as_json=as_json)
    if not decision.passed:
        raise typer.Exit(1)


@commands.command(epilog="pipelines/deployment.py starts it in the background")
def watch(
    port: Annotated[int, typer.Option(min=0, max=HIGHEST, help="Where /health answers.")] = 8090,
    listener: Annotated[int | None, typer.Option(hidden=True)] = None,
    debug: Debug = False,
) -> None:
    """Adopt what MLflow clients change in the registry, through the gates; or put it back."""
    settings = load_settings()
    poll_s = settings.deployment.registry_poll_ms / 1000
    with _health_listener(port, listener) as listening:
        run_watch(connect.registry_watch(settings), poll_s, listening)


def _health_listener(port: int, inherited: int | None) -> socket.socket:
    """The socket that was passed on, or one on the port."""
    if inherited is not None:
        return socket.socket(fileno=inherited)
    try:
        return listen(LOOPBACK, port)
    except OSError as error:
        held_by = holder(port) or "another program"
        raise ServiceError(
            f"Port {port} cannot be had ({error.strerror}); it is held by {held_by}. Choose "
            "another with --port."
        ) from error
