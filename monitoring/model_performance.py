"""Performance on demand: predictions and labels as frames, and a report on them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from configs.settings import Settings, load_settings
from models.connect import now
from monitoring import connect
from monitoring.checks.performance import CHECK, PerformanceReport, evaluate, join_labels
from monitoring.checks.results import Skipped
from monitoring.errors import MonitoringRefused
from monitoring.log.reader import LogWindow

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

PREDICTED = {
    "prediction_id": None,
    "user_id": None,
    "predicted_at": ...,
    "probability": ...,
    "decision": ...,
    "arm": "champion",
    "model_version": "unknown",
}
"""Columns of predictions: those that must be there, and what stands for others."""
CAME_TRUE = {
    "prediction_id": None,
    "user_id": None,
    "label": ...,
    "label_time": None,
    "known_at": None,
}


def load_predictions(days: float = 7, until: datetime | None = None) -> pd.DataFrame:
    """The predictions of the last days, one a row, oldest first.

    ``prediction_id``, ``predicted_at``, ``user_id``, ``unit``, ``arm``, ``model_version``,
    ``probability``, ``decision``, ``experiment``, ``propensity``, ``generation``, ``flags``,
    ``feature_event_time`` and ``schema_fingerprint``.
    """
    reader, end = connect.prediction_reader(load_settings()), until or now()
    return reader.predictions(LogWindow(end - timedelta(days=days), end)).to_pandas()


def load_actuals(days: float = 7, until: datetime | None = None) -> pd.DataFrame:
    """The labels of the last days, each by its newest report.

    ``prediction_id`` (of labels about a prediction) or ``user_id``, ``label``, ``label_time`` and
    ``known_at``.
    """
    reader, end = connect.prediction_reader(load_settings()), until or now()
    return reader.labels(end - timedelta(days=days), end).to_pandas()


def monitor_performance(
    predictions: pd.DataFrame | None = None, actuals: pd.DataFrame | None = None
) -> PerformanceReport | Skipped:
    """Compare predictions with what came true; alerts ``critical`` below the accuracy promised.

    Parameters
    ----------
    predictions, actuals
        As `load_predictions` and `load_actuals` give them; None reads those of
        ``monitoring.performance.window_days``.

    Raises
    ------
    MonitoringRefused
        If a frame lacks a column that is needed.
    """
    settings = load_settings()
    config, end = settings.monitoring.performance, now()
    start = end - timedelta(days=config.window_days)
    said = load_predictions(config.window_days) if predictions is None else predictions
    came = load_actuals(config.window_days) if actuals is None else actuals
    if not len(said) or not len(came):
        missing = "predictions" if not len(said) else "labels"
        return Skipped(CHECK, f"no {missing} in the window")
    joined = join_labels(
        _frame(said, PREDICTED), _frame(came, CAME_TRUE), timedelta(days=config.label_within_days)
    )
    report = evaluate(joined, start, end, config)
    if isinstance(report, PerformanceReport):
        _alert_if_low(settings, report)
    return report


def _alert_if_low(settings: Settings, report: PerformanceReport) -> None:
    config, accuracy = settings.monitoring.performance, report.whole.metrics["accuracy"]
    if accuracy.value >= config.min_accuracy or report.whole.n < config.min_labels:
        return
    message = (
        f"Accuracy dropped to {accuracy.value:.2%} over {report.whole.n:,} labelled "
        f"predictions; at least {config.min_accuracy:.0%} was promised"
    )
    labels = {"check": "accuracy"}
    connect.alerts(settings).send(message, "critical", report.end, labels, "monitor_performance")


def _frame(frame: pd.DataFrame, columns: Mapping[str, Any]) -> pl.DataFrame:
    import polars as pl

    lacking = [n for n, usual in columns.items() if usual is ... and n not in frame.columns]
    if lacking:
        raise MonitoringRefused(
            f"The frame lacks {', '.join(lacking)}. It has: {', '.join(map(str, frame.columns))}."
        )
    kinds: dict[str, Any] = {
        "prediction_id": pl.String,
        "user_id": pl.Int64,
        "label": pl.Int16,
        **dict.fromkeys(
            ("predicted_at", "label_time", "known_at"), pl.Datetime("us", time_zone="UTC")
        ),
    }
    taken = pl.from_pandas(frame[[name for name in columns if name in frame.columns]])
    absent = {n: pl.lit(usual) for n, usual in columns.items() if n not in taken.columns}
    whole = taken.with_columns(**absent)
    return whole.with_columns(
        pl.col(name).cast(kind) for name, kind in kinds.items() if name in whole.columns
    )
