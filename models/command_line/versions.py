"""``list`` and ``show``: the versions of the registered model, and everything about one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from configs.output import Answer, Table
from configs.settings import Settings
from models import connect
from models.artifact.artifact import ModelArtifact
from models.deployment.record import Deployment
from models.deployment.store import DeploymentStore
from models.gates.decision_store import DecisionStore
from models.gates.rules import Decision
from models.registry.mlflow_api import NOT_FOUND, unless
from models.registry.versions import ModelRegistry, ModelVersion
from models.reproduction.reproduction import recorded_metrics

SHOWN_METRICS = ("accuracy", "f1_score", "roc_auc", "log_loss")
LINEAGE = (
    *("git_commit", "code_version", "dataset_digest", "schema_fingerprint", "start", "end"),
    *("seed", "parent", "python", "machine", "threads", "training_key"),
)


def list_versions(settings: Settings, now: datetime) -> Answer:
    """The versions, the newest first."""
    registry, decisions = connect.model_registry(settings), connect.decision_store(settings)
    aliases = _names(registry.aliases())
    data: list[dict[str, Any]] = [
        {
            "version": each.label,
            "stage": each.stage,
            "aliases": aliases.get(each.version, []),
            "gates": _verdict(decisions.newest(each)),
            "metrics": metrics_of(registry, each),
            "trained_at": each.trained_at,
            "age": now - each.trained_at if each.trained_at else None,
        }
        for each in reversed(registry.versions())
    ]
    rows = [
        (
            *(each["version"], each["stage"], ", ".join(each["aliases"]) or None, each["gates"]),
            *(each["metrics"].get(name) for name in SHOWN_METRICS),
            each["age"],
        )
        for each in data
    ]
    title = f"Versions of {registry.model_name}" + ("" if rows else ": none is registered")
    columns = ("version", "stage", "aliases", "gates", *SHOWN_METRICS, "age") if rows else ()
    return Answer(data, [Table(title, columns, rows)])


def show_version(label: str, settings: Settings) -> Answer:
    """Lineage, metrics, gates, files and deployments of one version."""
    registry, decisions = connect.model_registry(settings), connect.decision_store(settings)
    store = connect.deployment_store(settings)
    version = registry.find(label)
    artifact = connect.artifact_cache(settings).get(version.artifact_uri, version.digest)
    data = {
        "version": version.label,
        "stage": version.stage,
        "aliases": _names(registry.aliases()).get(version.version, []),
        "trained_at": version.trained_at,
        "lifecycle": version.tags.get("lifecycle"),
        "run_id": version.run_id,
        "artifact_uri": version.artifact_uri,
        "artifact_digest": version.digest,
        "lineage": _lineage(version, artifact),
        "settings": settings_in(artifact),
        "packages": artifact.config.get("packages", {}),
        "metrics": metrics_of(registry, version),
        "gates": _gates(decisions, version),
        "files": _files(artifact),
        "deployments": _deployments(store, version),
        "stages": _stages(store, version),
    }
    return Answer(data, _tables(data))


def metrics_of(registry: ModelRegistry, version: ModelVersion) -> dict[str, float]:
    """The metrics of a version's run, by name; none when the run was deleted."""
    found: dict[str, float] | None = unless(NOT_FOUND, lambda: recorded_metrics(registry, version))
    return dict(sorted((found or {}).items()))


def settings_in(artifact: ModelArtifact) -> dict[str, Any]:
    """The settings that a model was trained with, in one level: ``masking.copies``."""
    from configs.training_config import TrainingConfig

    config = artifact.config
    known = {name: config[name] for name in TrainingConfig.model_fields if name in config}
    return dict(_flat({**known, "params": config.get("params", {})}))


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat += _flat(value, f"{prefix}{name}.")
        else:
            flat.append((f"{prefix}{name}", value))
    return flat


def _names(aliases: Mapping[str, int]) -> dict[int, list[str]]:
    """The aliases of each version."""
    names: dict[int, list[str]] = {}
    for alias, version in sorted(aliases.items()):
        names.setdefault(version, []).append(alias)
    return names


def _verdict(decision: Decision | None) -> str:
    if decision is None:
        return "never judged"
    return "passed" if decision.passed else "failed"


def _lineage(version: ModelVersion, artifact: ModelArtifact) -> dict[str, Any]:
    recorded = {**artifact.config, **version.tags}
    return {name: recorded.get(name) for name in LINEAGE}


def _gates(decisions: DecisionStore, version: ModelVersion) -> dict[str, Any] | None:
    decision = decisions.newest(version)
    return decision.to_dict() if decision else None


def _files(artifact: ModelArtifact) -> list[dict[str, Any]]:
    return [
        {"file": name, "bytes": (artifact.path / name).stat().st_size, "sha256": digest}
        for name, digest in artifact.files.items()
    ]


def _deployments(store: DeploymentStore, version: ModelVersion) -> list[dict[str, Any]]:
    """Each deployment in which the version served, and how."""
    return [
        {
            "generation": record.generation,
            "action": record.action,
            "as": arm.name,
            "share": arm.share,
            "since": record.created_at,
            "until": until,
            "reason": record.reason,
        }
        for record, until in with_ends(store.history())
        for arm in record.arms
        if arm.version == version.version
    ]


def with_ends(history: list[Deployment]) -> list[tuple[Deployment, datetime | None]]:
    """Each deployment with the time when the next replaced it; None while it serves."""
    ends = [record.created_at for record in history[1:]]
    return list(zip(history, [*ends, None], strict=False))


def _stages(store: DeploymentStore, version: ModelVersion) -> list[dict[str, Any]]:
    return [
        {"path": list(change.path), "at": change.changed_at, "reason": change.reason}
        for change in store.stage_history()
        if change.version == version.version
    ]


def _tables(data: Mapping[str, Any]) -> list[Table]:
    about = ("stage", "trained_at", "run_id", "artifact_uri", "artifact_digest", "lifecycle")
    aliases = ", ".join(data["aliases"]) or None
    tables = [
        Table(
            data["version"],
            ("what", "value"),
            [("aliases", aliases), *((name, data[name]) for name in about)],
        ),
        Table("Lineage", ("what", "value"), list(data["lineage"].items())),
        Table("Settings", ("what", "value"), [(n, _text(v)) for n, v in data["settings"].items()]),
        Table("Packages", ("what", "value"), list(data["packages"].items())),
        Table("Metrics", ("metric", "value"), list(data["metrics"].items())),
        _gate_table(data["gates"]),
        Table("Files", ("file", "bytes", "sha256"), [tuple(f.values()) for f in data["files"]]),
    ]
    for name in ("deployments", "stages"):
        if data[name]:
            rows = [[_text(cell) for cell in each.values()] for each in data[name]]
            tables.append(Table(name.capitalize(), list(data[name][0]), rows))
    return tables


def _gate_table(gates: Mapping[str, Any] | None) -> Table:
    if gates is None:
        return Table("Gates: never judged", (), [])
    against = gates["champion"] or "nothing"
    title = f"Gates: {'passed' if gates['passed'] else 'failed'} against {against}"
    return decision_table(title, gates["results"])


def decision_table(title: str, results: Sequence[Mapping[str, Any]]) -> Table:
    """What each gate says."""
    rows = [(each["gate"], each["passed"], each["reason"]) for each in results]
    return Table(title, ("gate", "passed", "reason"), rows)


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return " → ".join(value) if all(isinstance(v, str) for v in value) else json.dumps(value)
    return value
