"""Evidently's full drift report, for people: HTML and JSON of a pass, and a run of its UI.

It is made of rows, not of histograms, and takes seconds; the profile of every minute is made by
`feature_drift`. Both use the same index and threshold.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.errors import FTIError
from configs.monitoring_config import DriftConfig
from feature_store.definitions.engine import FeatureMatrix
from feature_store.training_data import decoded_column
from models.artifact.artifact import ModelArtifact
from models.base import narrowed
from monitoring.checks.drift import DriftReport
from monitoring.checks.results import PassResult
from monitoring.checks.serving_models import ServingModels
from monitoring.log.reader import LogWindow, PredictionReader

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

WORKSPACE = "evidently"
PROJECT = "drift"


@dataclass(frozen=True)
class FullReport:
    """Where a report lies."""

    html: Path
    json: Path
    workspace: Path


def full_report(
    reference: FeatureMatrix, current: FeatureMatrix, folder: Path, name: str, psi: float
) -> FullReport:
    """Make Evidently's report of two matrices of the same features.

    Parameters
    ----------
    folder
        ``{name}.html`` and ``.json`` are written there, and the workspace ``evidently`` beside,
        which ``evidently ui --workspace`` shows.
    psi
        From this index on a feature has drifted.
    """
    from evidently.ui.workspace import Workspace

    before, now = decode(reference), decode(current)
    both = [name for name in before.columns if name in now.columns]
    snapshot = run(before[both], now[both], psi)
    folder.mkdir(parents=True, exist_ok=True)
    report = FullReport(folder / f"{name}.html", folder / f"{name}.json", folder / WORKSPACE)
    snapshot.save_html(str(report.html))
    snapshot.save_json(str(report.json))
    workspace = Workspace(str(report.workspace))
    found = workspace.search_project(PROJECT)
    project = found[0] if found else workspace.create_project(PROJECT)
    workspace.add_run(project.id, snapshot)
    return report


def run(reference: pd.DataFrame, current: pd.DataFrame, psi: float, method: str = "psi") -> Any:
    """Run Evidently's preset on two frames with the same columns; give its snapshot."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    words = [name for name in reference.columns if reference[name].dtype == object]
    definition = DataDefinition(
        numerical_columns=[name for name in reference.columns if name not in words],
        categorical_columns=words,
    )
    data = [Dataset.from_pandas(frame, definition) for frame in (current, reference)]
    preset = DataDriftPreset(
        method=method, threshold=psi, columns=[str(name) for name in reference.columns]
    )
    return Report([preset]).run(*data)


def decode(matrix: FeatureMatrix) -> pd.DataFrame:
    """Rows as Evidently takes them: floats, and words; columns without any value are left out."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for place, feature in enumerate(matrix.schema.features):
        if feature.kind == "category":
            words = pd.Series(decoded_column(matrix, place), dtype=object)
            columns[feature.name] = words.fillna("missing")
        elif not np.isnan(matrix.values[:, place]).all():
            columns[feature.name] = matrix.values[:, place].astype(np.float64)
    return pd.DataFrame(columns)


def sample(matrix: FeatureMatrix, most: int, seed: int = 0) -> FeatureMatrix:
    """At most so many rows, chosen at random."""
    if len(matrix) <= most:
        return matrix
    return matrix.rows(np.sort(np.random.default_rng(seed).permutation(len(matrix))[:most]))


@dataclass(frozen=True)
class FullReports:
    """Makes full reports as the settings want them.

    Parameters
    ----------
    training_rows
        Gives the rows that a model was trained on, from what its artifact recorded.
    folder
        Where reports are kept.
    """

    config: DriftConfig
    reader: PredictionReader
    training_rows: Callable[[ModelArtifact], FeatureMatrix]
    folder: Path

    def make(self, result: PassResult) -> FullReport | None:
        """Make the report of a pass; None where none is wanted, or its rows are not to be had."""
        drift = result.outcomes["drift"]
        if result.serving is None or not isinstance(drift, DriftReport):
            return None
        if not self._is_wanted(drift):
            return None
        try:
            reference = narrowed(self.training_rows(result.serving.artifact), result.serving.schema)
        except FTIError as error:
            logger.warning("monitoring: no full drift report: %s", error)
            return None
        current = self._window(result.serving, result.as_of)
        most = self.config.full_report_rows
        name = f"drift-{result.as_of:%Y%m%d-%H%M%S}"
        rows = sample(reference, most), sample(current, most)
        try:
            return full_report(*rows, self.folder, name, self.config.psi)
        except Exception as error:  # noqa: BLE001 - a report for people must not end a pass
            logger.warning("monitoring: Evidently made no report: %s", error)
            return None

    def _is_wanted(self, drift: DriftReport) -> bool:
        if self.config.full_report != "on_drift":
            return self.config.full_report == "always"
        newest = max((p.stat().st_mtime for p in self.folder.glob("drift-*.html")), default=0.0)
        pause = timedelta(hours=self.config.full_report_pause_hours)
        return drift.has_drifted and time.time() - newest >= pause.total_seconds()

    def _window(self, serving: ServingModels, now: datetime) -> FeatureMatrix:
        start = now - timedelta(hours=self.config.window_hours)
        window = LogWindow(start, now, serving.champion, self.config.of == "stored")
        blocks = self.reader.vectors(window, serving.schema.fingerprint)
        values = np.concatenate([block.values for block in blocks])
        n = len(values)
        keys, times = np.zeros(n, dtype=np.int64), np.zeros(n, dtype="datetime64[us]")
        return FeatureMatrix(values, keys, times, serving.schema)
