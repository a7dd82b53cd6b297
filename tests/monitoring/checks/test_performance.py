"""Performance over late labels: by prediction or by user and time, matured, with intervals."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from configs.monitoring_config import PerformanceConfig
from models.connect import postgres
from monitoring import model_performance
from monitoring.checks.performance import PerformanceReport, evaluate, join_labels
from monitoring.checks.results import Skipped
from monitoring.log.labels import LabelRecord, insert_labels
from monitoring.log.reader import LogWindow, PredictionReader

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TIME = pl.Datetime("us", "UTC")


def predictions(n=4, **columns) -> pl.DataFrame:
    usual = {
        "prediction_id": [f"p{i}" for i in range(n)],
        "user_id": list(range(n)),
        "predicted_at": [NOW - 5 * HOUR + i * timedelta(minutes=1) for i in range(n)],
        "arm": ["champion"] * n,
        "model_version": ["v1"] * n,
        "probability": [0.2 + 0.1 * (i % 7) for i in range(n)],
        "decision": [int(0.2 + 0.1 * (i % 7) >= 0.5) for i in range(n)],
    }
    return pl.DataFrame(usual | columns).with_columns(pl.col("predicted_at").cast(TIME))


def labels(*rows) -> pl.DataFrame:
    names = ("prediction_id", "user_id", "label", "label_time", "known_at")
    kinds = (pl.String, pl.Int64, pl.Int16, TIME, TIME)
    columns = dict(zip(names, kinds, strict=True))
    return pl.DataFrame([dict(zip(names, row, strict=True)) for row in rows], schema=columns)


def known(frame: pl.DataFrame) -> dict:
    return dict(zip(frame["prediction_id"], frame["label"], strict=True))


def test_a_label_belongs_to_its_prediction():
    joined = join_labels(predictions(2), labels(("p1", None, 1, NOW, NOW)), DAY)
    assert known(joined) == {"p0": None, "p1": 1}


def test_a_label_of_a_user_answers_predictions_up_to_its_time():
    rows = [(None, 0, 1, NOW, NOW), (None, 1, 1, NOW - 9 * HOUR, NOW)]
    joined = join_labels(predictions(2), labels(*rows), DAY)
    assert known(joined) == {"p0": 1, "p1": None}  # the second tells of what was before


def test_the_first_label_after_a_prediction_is_its_outcome():
    rows = [(None, 0, 0, NOW - HOUR, NOW), (None, 0, 1, NOW, NOW)]
    assert known(join_labels(predictions(1), labels(*rows), DAY)) == {"p0": 0}


def test_a_label_that_is_too_much_later_is_none():
    late = labels((None, 0, 1, NOW, NOW))
    assert known(join_labels(predictions(1), late, 2 * HOUR)) == {"p0": None}


def test_a_label_about_the_prediction_counts_before_one_about_its_user():
    rows = [(None, 0, 0, NOW, NOW), ("p0", None, 1, NOW, NOW)]
    assert known(join_labels(predictions(1), labels(*rows), DAY)) == {"p0": 1}


@pytest.fixture
def joined() -> pl.DataFrame:
    random, n = np.random.default_rng(4), 600
    said = random.random(n)
    came = (random.random(n) < said).astype(int)
    arms = np.where(np.arange(n) % 3 == 0, "challenger", "champion")
    return predictions(
        n,
        probability=said,
        decision=(said >= 0.4).astype(int),
        arm=arms,
        model_version=np.where(arms == "champion", "v1", "v2"),
        predicted_at=[NOW - 2 * DAY + i * timedelta(minutes=1) for i in range(n)],
        label=came,
        known_at=[NOW - DAY] * n,
        sex=(2 + np.arange(n) % 2).astype(np.float32),
    ).with_columns(pl.col("label").cast(pl.Int16), pl.col("known_at").cast(TIME))


def test_metrics_are_those_of_scikit_learn_and_lie_within_their_intervals(joined):
    report = evaluate(joined, NOW - 7 * DAY, NOW, PerformanceConfig())
    came, said = joined["label"].to_numpy(), joined["probability"].to_numpy()
    decided = joined["decision"].to_numpy()
    expected = {
        "accuracy": (decided == came).mean(),
        "f1_score": f1_score(came, decided),
        "roc_auc": roc_auc_score(came, said),
        "log_loss": log_loss(came, said),
        "brier": np.mean((said - came) ** 2),
    }
    for name, value in expected.items():
        estimate = report.whole.metrics[name]
        assert estimate.value == pytest.approx(value), name
        assert estimate.low < estimate.value < estimate.high, name
    ece = report.whole.metrics["ece"]
    assert 0 <= ece.low <= ece.value <= ece.high < 0.15


def test_arms_versions_and_slices_are_measured_apart(joined):
    words = {"sex": ["missing", "missing", "Female", "Male"]}
    report = evaluate(joined, NOW - 7 * DAY, NOW, PerformanceConfig(), words)
    found = {(each.by, each.word): each.n for each in report.groups}
    assert found == {
        ("all", "all"): 600,
        ("arm", "challenger"): 200,
        ("arm", "champion"): 400,
        ("model_version", "v1"): 400,
        ("model_version", "v2"): 200,
        ("sex", "Female"): 300,
        ("sex", "Male"): 300,
    }


def test_coverage_and_delay_are_told_and_by_what_was_said(joined):
    few = joined.with_columns(
        label=pl.when(pl.col("decision") == 1).then(pl.col("label")),
    )
    coverage = evaluate(few, NOW - 7 * DAY, NOW, PerformanceConfig()).coverage
    assert (coverage.of_ones, coverage.of_zeros) == (1.0, 0.0)
    assert coverage.labelled < coverage.n == 600
    assert coverage.share == pytest.approx(coverage.labelled / 600)
    assert coverage.delay_s[0] == pytest.approx(
        np.median(
            [
                (NOW - DAY - at).total_seconds()
                for at in few.filter(pl.col("label").is_not_null())["predicted_at"]
            ]
        )
    )


def test_only_matured_predictions_count(joined):
    config = PerformanceConfig(maturity_hours=47)
    report = evaluate(joined, NOW - 7 * DAY, NOW, config)
    assert report.whole.n == report.coverage.n == 61


def test_one_class_leaves_open_what_cannot_be_said(joined):
    zeros = joined.with_columns(label=pl.lit(0, pl.Int16))
    report = evaluate(zeros, NOW - 7 * DAY, NOW, PerformanceConfig())
    assert np.isnan(report.whole.metrics["roc_auc"].value)
    assert np.isfinite(report.whole.metrics["accuracy"].value)
    assert report.whole.is_small


@pytest.mark.parametrize("which", ["no predictions", "no labels"])
def test_nothing_to_evaluate_is_skipped_with_a_reason(joined, which):
    frame = joined[:0] if which == "no predictions" else joined.with_columns(label=None)
    skipped = evaluate(frame, NOW - 7 * DAY, NOW, PerformanceConfig())
    assert isinstance(skipped, Skipped)
    assert which in skipped.reason


def test_labels_are_read_as_they_were_known_then(watching):
    """A correction counts from the time at which it was reported, and not before."""
    simulation = watching.simulation(visits_a_day=50)
    simulation.play(0)
    with postgres(watching.settings)() as connection:
        [[prediction, at]] = connection.execute(
            "SELECT prediction_id, predicted_at FROM predictions LIMIT 1"
        ).fetchall()
        connection.execute("DELETE FROM labels")
        at_us = int(at.timestamp() * 1e6)
        for label, hours in ((0, 1), (1, 5)):
            told = LabelRecord(prediction.bytes, None, label, at_us, at_us + hours * 3_600_000_000)
            with connection.transaction():
                insert_labels(connection, [told])
    reader = PredictionReader(watching.monitor().postgres)
    for hours, expected in ((0, []), (2, [0]), (6, [1])):
        found = reader.labels(at - DAY, at + hours * HOUR)
        assert found["label"].to_list() == expected


def test_reading_asks_for_the_window_and_nothing_else(watching):
    simulation = watching.simulation(visits_a_day=200)
    simulation.play(0)
    reader, start = PredictionReader(watching.monitor().postgres), simulation.world.now(0)
    whole = reader.predictions(LogWindow(start, start + DAY))
    half = reader.predictions(LogWindow(start, start + DAY / 2))
    other = reader.predictions(LogWindow(start, start + DAY, "another version"))
    assert (len(whole), len(other)) == (200, 0)
    assert 0 < len(half) < 200
    assert (half["predicted_at"] < start + DAY / 2).all()


def test_people_may_hand_in_frames_of_their_own(monkeypatch, own_settings, joined):
    told = []
    monkeypatch.setattr(model_performance, "load_settings", lambda: own_settings)
    monkeypatch.setattr(
        "monitoring.alerting.rules.Alerts.send", lambda self, *given: told.append(given) or True
    )
    said = pd.DataFrame(
        {
            "prediction_id": [f"p{i}" for i in range(300)],
            "predicted_at": pd.Timestamp(NOW) - pd.Timedelta(hours=3),
            "probability": 0.9,
            "decision": 1,
        }
    )
    came = pd.DataFrame(
        {"prediction_id": said["prediction_id"], "label": [1] * 200 + [0] * 100, "known_at": NOW}
    )
    report = model_performance.monitor_performance(said, came)
    assert isinstance(report, PerformanceReport)
    assert report.whole.metrics["accuracy"].value == pytest.approx(2 / 3)
    [(message, severity, *_)] = told
    assert severity == "critical"
    assert "66.67%" in message
