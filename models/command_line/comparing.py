"""``compare``: two versions on the same rows, and what is otherwise in how they came about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from configs.output import Answer, Table
from configs.settings import Settings
from feature_store.definitions.schema_changes import schema_changes
from models import connect
from models.artifact.artifact import ModelArtifact
from models.command_line.versions import LINEAGE, settings_in
from models.evaluation.paired import Difference, metric_differences
from models.gates.held_out import rows_for_both, split_of
from models.gates.runner import scores_of
from models.registry.versions import ModelVersion


def compare_versions(first: str, second: str, settings: Settings) -> Answer:
    """Metrics of both on rows that neither learned from; the differences are second less first."""
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
        "lineage": _changes(_lineage(one, versions[0]), _lineage(other, versions[1])),
    }
    return Answer(data, _tables(data))


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
    common = rows_for_both(test, one, versions[0].label, history, drawn.rows, at_least)
    ours, theirs = common.features
    scored = scores_of(one, theirs), scores_of(other, ours)
    return common.about, metric_differences(
        common.labels, (scored[0], one.threshold), (scored[1], other.threshold)
    )


def _changes(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What differs: name to both values."""
    return {
        name: [first.get(name), second.get(name)]
        for name in sorted({*first, *second})
        if first.get(name) != second.get(name)
    }


def _lineage(artifact: ModelArtifact, version: ModelVersion) -> dict[str, Any]:
    recorded = {**artifact.config, **version.tags}
    return {name: recorded.get(name) for name in LINEAGE if name not in {"start", "end", "seed"}}


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
