"""When Evidently's full report is made, and of which rows."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from configs.errors import FTIError
from configs.monitoring_config import DriftConfig
from feature_store.definitions.engine import FeatureMatrix
from models.artifact.artifact import ModelArtifact
from models.base import narrowed
from monitoring.checks.serving_models import Watched
from monitoring.feature_drift import DriftReport
from monitoring.log.reader import PredictionReader, Window
from monitoring.passes.run import PassResult
from monitoring.reporting.evidently_report import FullReport, full_report, sampled

logger = logging.getLogger(__name__)


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
        if result.watched is None or not isinstance(drift, DriftReport):
            return None
        if not self._is_wanted(drift):
            return None
        try:
            reference = narrowed(self.training_rows(result.watched.artifact), result.watched.schema)
        except FTIError as error:
            logger.warning("monitoring: no full drift report: %s", error)
            return None
        current = self._window(result.watched, result.as_of)
        most = self.config.full_report_rows
        name = f"drift-{result.as_of:%Y%m%d-%H%M%S}"
        rows = sampled(reference, most), sampled(current, most)
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

    def _window(self, watched: Watched, now: datetime) -> FeatureMatrix:
        start = now - timedelta(hours=self.config.window_hours)
        window = Window(start, now, watched.champion, self.config.of == "stored")
        blocks = self.reader.vectors(window, watched.schema.fingerprint)
        values = np.concatenate([block.values for block in blocks])
        n = len(values)
        keys, times = np.zeros(n, dtype=np.int64), np.zeros(n, dtype="datetime64[us]")
        return FeatureMatrix(values, keys, times, watched.schema)
