"""A trained model as files beside its data: what DVC keeps, and how a registry gets it back."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from models.artifact.artifact import ModelArtifact, json_bytes
from models.base import Labels, Values
from models.errors import ArtifactError
from models.evaluation.calibration import reliability
from models.lineage import Dataset
from models.registry.tracking import TrainingRecord, register_run
from models.registry.versions import ModelRegistry, ModelVersion

CURVE_POINTS = 200
"""Enough for a smooth curve; all thresholds of 9,758 rows would make no better picture."""


def keep(artifact: ModelArtifact, version: ModelVersion, folder: Path, record: Path) -> None:
    """Copy a registered artifact into a folder, and what the registry says of it into a file."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(artifact.path, folder)
    record.write_bytes(json_bytes({"version": version.label, "tags": dict(version.tags)}))


def ensure_registered(
    registry: ModelRegistry,
    artifact: ModelArtifact,
    dataset: Dataset,
    record: Path,
    metrics: Mapping[str, float],
) -> ModelVersion:
    """The version whose artifact this is; a registry that has none gets it, with its tags.

    Raises
    ------
    ArtifactError
        If the record is not there.
    """
    known = [each for each in registry.versions() if each.digest == artifact.digest]
    if known:
        return known[-1]
    try:
        tags = json.loads(record.read_text())["tags"]
    except OSError as error:
        raise ArtifactError(f"{record} is not there. Run `dvc repro`, or `dvc pull`.") from error
    with TemporaryDirectory() as folder:
        shutil.copy(artifact.path / "config.json", folder)
        return register_run(
            registry,
            TrainingRecord(
                experiment=str(artifact.config["experiment_name"]),
                run_name=artifact.family,
                started_at=datetime.fromisoformat(tags["trained_at"]),
                params=artifact.config["params"],
                metrics=metrics,
                tags={name: value for name, value in tags.items() if name != "label"},
                dataset=dataset,
                files=Path(folder),
                artifact=artifact,
            ),
        )


def write_plots(
    folder: Path, labels: Labels, probabilities: Values, importance: Mapping[str, float]
) -> None:
    """Write the curves of the test rows as CSV files, which ``dvc plots`` draws and compares.

    Parameters
    ----------
    labels, probabilities
        Of the test rows, ``(n,)``.
    importance
        Feature to its share.
    """
    import numpy as np
    from sklearn.metrics import precision_recall_curve, roc_curve

    folder.mkdir(parents=True, exist_ok=True)
    fpr, tpr, _ = roc_curve(labels, probabilities)
    precision, recall, _ = precision_recall_curve(labels, probabilities)
    for name, header, curve in (
        ("roc", ("false_positive_rate", "true_positive_rate"), (fpr, tpr)),
        ("precision_recall", ("recall", "precision"), (recall, precision)),
    ):
        few = np.linspace(0, len(curve[0]) - 1, CURVE_POINTS).round().astype(int)
        _write(folder / f"{name}.csv", header, np.column_stack(curve)[few].tolist())
    tenths = [(each.predicted, each.observed.value) for each in reliability(labels, probabilities)]
    _write(folder / "calibration.csv", ("predicted", "observed"), tenths)
    ranked = sorted(importance.items(), key=lambda item: -item[1])
    _write(folder / "importance.csv", ("feature", "share"), ranked)


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(
            [f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in rows
        )
