"""Drift of 10,000 logged predictions with 47 features: our profile, and Evidently's preset.

``ours`` reads the window out of the prediction log in PostgreSQL, counts it into the bins of the
reference and judges every feature: what monitoring does each minute. ``ours_in_memory`` leaves the
reading out. ``evidently`` runs its preset over two frames in memory that are decoded already;
importing it, which takes seconds more, is not counted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg

from benchmarks.harness.report import Report, interleaved, is_quick, seconds
from benchmarks.harness.stage import real_rows, servers
from configs.settings import Settings
from feature_store.definitions.engine import FeatureMatrix
from feature_store.offline.postgres import Postgres
from models.artifact.profile import reference_profile
from monitoring.checks.data_quality import scan
from monitoring.checks.drift import DriftReport, compare
from monitoring.log.reader import LogWindow, PredictionReader
from monitoring.log.record import Context, Flags, PredictionRecord, ScoredArm, new_prediction_id
from monitoring.log.table import copy_predictions
from monitoring.reporting import evidently_report

ROWS, REFERENCE_ROWS = 10_000, 30_000
PSI = 0.1


def log_predictions(settings: Settings, matrix: FeatureMatrix, now: datetime) -> None:
    """Log a prediction of each row."""
    now_us = int(now.timestamp() * 1e6)
    arm = ScoredArm("champion", 1, "v1")
    context = Context(1, "champion", 1.0, (arm,), None, "onnx", matrix.schema.fingerprint, 0.5)
    records = [
        PredictionRecord(
            prediction_id=new_prediction_id(now_us + place),
            predicted_at_us=now_us + place,
            user_id=int(key),
            unit=str(key),
            event_time_us=now_us,
            vector=vector,
            outputs=(0.3,),
            flags=Flags.NONE,
            context=context,
        )
        for place, (key, vector) in enumerate(zip(matrix.keys, matrix.values, strict=True))
    ]
    with psycopg.connect(str(settings.database_url)) as connection:
        copy_predictions(connection, records)


def subjects(settings: Settings, n: int) -> dict[str, Callable[[], object]]:
    """What is measured: each judges all features of the same rows."""
    matrix, labels = real_rows(settings)
    before, now = matrix.rows(slice(0, REFERENCE_ROWS)), matrix.rows(slice(-n, None))
    age = now.schema.position("age")
    now.values[:, age] += 6
    at = datetime.now(UTC)
    log_predictions(settings, now, at)
    scores = np.full(len(before), 0.3, dtype=np.float32)
    reference = reference_profile(before.values, before.schema, scores, [labels.values], {})
    reader = PredictionReader(Postgres(str(settings.database_url)))
    window = LogWindow(at - timedelta(hours=1), at + timedelta(hours=1), "v1", stored_only=True)
    frames = evidently_report.decode(before), evidently_report.decode(now)

    def ours() -> DriftReport:
        found = scan(reader, window, now.schema, reference)
        report = compare(reference, found.features, found.scores)
        assert isinstance(report, DriftReport)
        return report

    def in_memory() -> object:
        return compare(reference, reference.features.counted(now.values))

    def evidently() -> set[str]:
        metrics = evidently_report.run(*frames, PSI).dict()["metrics"]
        moved = [each for each in metrics if "ValueDrift" in each["metric_name"]]
        return {each["config"]["column"] for each in moved if each["value"] >= PSI}

    named = {each.name for each in ours().features if each.psi >= PSI}
    assert named == evidently(), f"they disagree: {named ^ evidently()}"
    return {"ours": ours, "ours_in_memory": in_memory, "evidently": evidently}


def main() -> int:
    """Measure them in turn."""
    report = Report("drift", packages=["evidently", "numpy", "scipy"])
    with servers() as settings:
        works = subjects(settings, 1_000 if is_quick() else ROWS)
        timed = {name: seconds(work) for name, work in works.items()}
        report.add("wall", "s", interleaved(timed, 2 if is_quick() else 7))
    report.ratio("evidently", "ours", "wall")
    report.target("ours_wall", "<=", 1.0)
    report.target("evidently_over_ours_wall", ">=", 4.0)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
