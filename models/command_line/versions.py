"""``list``, ``show`` and ``history``: the versions of a model, and what became of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from configs.command_line import AsJson, Debug
from configs.output import Display, Table, show
from configs.section import utc_time
from configs.settings import load_settings
from models import connect
from models.artifact.artifact import ModelArtifact
from models.deployment.record import Deployment
from models.deployment.store import DeploymentStore
from models.gates.rules import Decision
from models.registry.mlflow_api import NOT_FOUND, unless
from models.registry.versions import ModelRegistry, ModelVersion
from models.reproduction.reproduction import recorded_metrics

SHOWN_METRICS = ("accuracy", "f1_score", "roc_auc", "log_loss")
LINEAGE = (
    *("git_commit", "code_version", "dataset_digest", "schema_fingerprint", "start", "end"),
    *("seed", "parent", "python", "machine", "threads", "training_key"),
)

Version = Annotated[str, typer.Argument(help="A version, such as income-xgb-v3.")]

commands = typer.Typer()


@commands.command("list", epilog="Example: python -m models list --json")
def list_versions(as_json: AsJson = False, debug: Debug = False) -> None:
    """List the versions: stage, aliases, gates, metrics, age."""
    settings, now = load_settings(), datetime.now(UTC)
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
    show(Display(data, [Table(title, columns, rows)]), as_json=as_json)


@commands.command("show", epilog="Example: python -m models show income-xgb-v3")
def show_version(version: Version, as_json: AsJson = False, debug: Debug = False) -> None:
    """Show everything about a version: lineage, metrics, gates, files, deployments."""
    settings = load_settings()
    registry, store = connect.model_registry(settings), connect.deployment_store(settings)
    found = registry.find(version)
    decision = connect.decision_store(settings).newest(found)
    artifact = connect.artifact_cache(settings).get(found.artifact_uri, found.digest)
    data = {
        "version": found.label,
        "stage": found.stage,
        "aliases": _names(registry.aliases()).get(found.version, []),
        "trained_at": found.trained_at,
        "lifecycle": found.tags.get("lifecycle"),
        "run_id": found.run_id,
        "artifact_uri": found.artifact_uri,
        "artifact_digest": found.digest,
        "lineage": lineage_of(found, artifact),
        "settings": settings_in(artifact),
        "packages": artifact.config.get("packages", {}),
        "metrics": metrics_of(registry, found),
        "gates": decision.to_dict() if decision else None,
        "files": _files(artifact),
        "deployments": _deployments(store, found),
        "stages": _stages(store, found),
    }
    show(Display(data, _tables(data)), as_json=as_json)


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


def lineage_of(version: ModelVersion, artifact: ModelArtifact) -> dict[str, Any]:
    """Where a version comes from: what its tags or else its artifact say."""
    recorded = {**artifact.config, **version.tags}
    return {name: recorded.get(name) for name in LINEAGE}


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
        for record, until in _with_ends(store.history())
        for arm in record.arms
        if arm.version == version.version
    ]


def _with_ends(history: list[Deployment]) -> list[tuple[Deployment, datetime | None]]:
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


@commands.command(epilog="Examples: … history · … history --as-of 2026-03-01")
def history(
    as_of: Annotated[
        str | None, typer.Option(help="What was in production at this time (UTC).")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show deployments, stage changes and overruled gates; or what served at a time."""
    moment = utc_time(as_of) if as_of else None
    store = connect.deployment_store(load_settings())
    show(_events(store) if moment is None else _served(store, moment), as_json=as_json)


def _events(store: DeploymentStore) -> Display:
    data = [
        *(_of_deployment(record) for record in store.history()),
        *(
            _event(c.changed_at, "stage", c.label, " → ".join(c.path), c.reason)
            for c in store.stage_history()
        ),
        *(
            _event(o.forced_at, "overruled", o.label, o.overruled, f"{o.actor}: {o.reason}")
            for o in store.overrides()
        ),
    ]
    data.sort(key=lambda event: event["at"])
    title = f"History of {store.model_name}" + ("" if data else ": nothing has happened yet")
    columns = ("at", "kind", "version", "what", "reason") if data else ()
    return Display(data, [Table(title, columns, [tuple(event.values()) for event in data])])


def _served(store: DeploymentStore, as_of: datetime) -> Display:
    earlier = [each for each in _with_ends(store.history()) if each[0].created_at <= as_of]
    if not earlier:
        data: dict[str, Any] = {"as_of": as_of, "champion": None, "arms": []}
        return Display(data, [Table(f"Nothing was in production at {_when(as_of)}", (), [])])
    record, until = earlier[-1]
    arms = [
        {"version": arm.label, "as": arm.name, "share": arm.share, "digest": arm.digest}
        for arm in record.arms
    ]
    data = {
        "as_of": as_of,
        "champion": record.champion.label,
        "generation": record.generation,
        "since": record.created_at,
        "until": until,
        "arms": arms,
    }
    rows = [(*arm.values(), record.created_at, until) for arm in arms]
    title = f"In production at {_when(as_of)}: generation {record.generation}"
    return Display(data, [Table(title, (*arms[0], "since", "until"), rows)])


def _of_deployment(record: Deployment) -> dict[str, Any]:
    arms = ", ".join(f"{arm.label} {arm.share:.0%}" for arm in record.arms)
    what = f"generation {record.generation}, {record.action}: {arms}"
    return _event(record.created_at, "deployment", record.champion.label, what, record.reason)


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _event(at: datetime, kind: str, version: str, what: str, reason: str) -> dict[str, Any]:
    return {"at": at, "kind": kind, "version": version, "what": what, "reason": reason}
