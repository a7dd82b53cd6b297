"""What people call from Python, on real stores, with settings out of the environment."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import psycopg
import pytest

from configs.monitoring_config import DriftConfig
from infrastructure.embedded import postgres_url, redis_url
from models.connect import postgres
from monitoring.alerts import send_alert
from monitoring.checks.drift import DriftReport
from monitoring.checks.performance import PerformanceReport
from monitoring.checks.results import Skipped
from monitoring.errors import MonitoringRefused
from monitoring.feature_drift import detect_drift
from monitoring.log.record import Context, Flags, PredictionRecord, ScoredArm, new_prediction_id
from monitoring.log.shipper import PredictionShipper, shipping_lag_s
from monitoring.log.writer import PredictionLog
from monitoring.model_performance import (
    load_actuals,
    load_predictions,
    monitor_performance,
)
from monitoring.reporting.evidently_report import FullReports
from monitoring.retraining import trigger_training_pipeline
from monitoring.retraining_requests import RetrainingRequest, Withheld


@pytest.fixture
def environment(own_settings, monkeypatch):
    """The environment of a process whose stores are this test's own."""
    monkeypatch.setenv("DATABASE_URL", postgres_url(own_settings))
    monkeypatch.setenv("REDIS_URL", redis_url(own_settings))
    monkeypatch.setenv("FTI_VAR_DIR", str(own_settings.var_dir))
    return own_settings


def told(settings) -> list[tuple[str, str]]:
    with psycopg.connect(settings.database_url) as connection:
        query = "SELECT alert ->> 'severity', alert ->> 'summary' FROM alert_notices ORDER BY 1"
        return connection.execute(query).fetchall()


def test_drift_between_frames_is_a_warning(environment):
    random = np.random.default_rng(0)
    before = pd.DataFrame({"age": random.normal(40, 10, 2_000), "job": ["a", "b"] * 1_000})
    now = pd.DataFrame({"age": random.normal(52, 10, 900), "job": ["a", "b"] * 450})
    report = detect_drift(before, now)
    assert isinstance(report, DriftReport)
    assert [each.name for each in report.drifted] == ["age"]
    [(severity, message)] = told(environment)
    assert severity == "warning"
    assert "age (PSI" in message
    assert not detect_drift(before, before.copy()).has_drifted
    assert len(told(environment)) == 1


def test_drift_between_matrices_and_mixtures_that_make_no_sense(environment, rows):
    matrix = rows.features
    half = len(matrix) // 2
    assert not detect_drift(matrix.rows(slice(0, half)), matrix.rows(slice(half, None))).has_drifted
    with pytest.raises(MonitoringRefused, match="compares a frame with a frame"):
        detect_drift(matrix, pd.DataFrame({"age": [1.0]}))
    assert isinstance(detect_drift(), Skipped)  # nothing is deployed


def test_performance_below_the_promise_is_critical(environment, watching):
    now = datetime.now(UTC)
    concept = {"kind": "concept_drift", "column": "relationship", "words": ["Husband", "Wife"]}
    watching.settings = environment
    simulation = watching.simulation(concept, label_delay_hours=1, visits_a_day=400)
    object.__setattr__(simulation.world, "start", now - timedelta(days=1))
    simulation.play(0)
    predictions, actuals = load_predictions(days=7), load_actuals(days=7)
    assert len(predictions) == 400
    assert 300 < len(actuals) <= 400
    report = monitor_performance(predictions, actuals)
    assert isinstance(report, PerformanceReport)
    assert report.whole.n == len(actuals)
    again = monitor_performance()
    assert again.whole.metrics == report.whole.metrics
    [(severity, message)] = told(environment)  # told once, not with each look
    assert severity == "critical"
    assert message.startswith("Accuracy dropped to ")


def test_before_the_first_prediction_frames_are_empty(environment):
    assert len(load_predictions()) == len(load_actuals()) == 0
    assert monitor_performance() == Skipped("performance", "no predictions in the window")


def test_a_frame_that_lacks_a_column_is_refused_by_name(environment):
    said = pd.DataFrame({"prediction_id": ["a"], "probability": [0.5]})
    came = pd.DataFrame({"prediction_id": ["a"], "label": [1]})
    with pytest.raises(MonitoringRefused, match="lacks predicted_at, decision"):
        monitor_performance(said, came)


def test_an_alert_is_sent_once_and_its_severity_is_checked(environment):
    assert send_alert("the export is late", severity="warning")
    assert not send_alert("the export is late", severity="warning")
    assert told(environment) == [("warning", "the export is late")]
    with pytest.raises(MonitoringRefused, match="no severity 'loud'"):
        send_alert("x", severity="loud")


def test_a_person_may_ask_for_a_retraining_but_not_twice(environment):
    assert isinstance(trigger_training_pipeline("the catalogue was renewed"), RetrainingRequest)
    assert isinstance(trigger_training_pipeline(), Withheld)


def test_evidently_keeps_a_report_of_a_pass_that_drifted(watching, rows, tmp_path):
    shift = {"kind": "covariate_shift", "column": "age", "strength": 0.9}
    simulation = watching.simulation(shift, visits_a_day=500)
    simulation.play(0)
    monitor = watching.monitor()
    result = monitor.run(simulation.world.now(1))
    config = DriftConfig(full_report_rows=400)
    reports = FullReports(config, monitor.reader, lambda artifact: rows.features, tmp_path)
    report = reports.make(result)
    kept = json.loads(report.json.read_text())
    values = {
        each["config"]["column"]: each["value"]
        for each in kept["metrics"]
        if "ValueDrift" in each["metric_name"]
    }
    assert len(values) == 47
    assert values["age"] > 0.1
    assert "<html" in report.html.read_text()[:2000].lower()
    assert len(list(report.workspace.glob("*/snapshots/*.json"))) == 1
    assert reports.make(result) is None  # not again so soon


def test_receipts_that_wait_have_an_age(own_settings, tmp_path):
    connect, now = postgres(own_settings), datetime.now(UTC)
    assert shipping_lag_s(tmp_path, connect, now) == 0
    log = PredictionLog(tmp_path, 64 * 1024)
    arm = ScoredArm("champion", 1, "v1")
    context = Context(1, "champion", 1.0, (arm,), None, "onnx", "0123", 0.5)
    at_us = int((now - timedelta(seconds=90)).timestamp() * 1e6)
    record = PredictionRecord(
        prediction_id=new_prediction_id(at_us),
        predicted_at_us=at_us,
        user_id=1,
        unit="1",
        event_time_us=None,
        vector=np.zeros(3, dtype=np.float32),
        outputs=(0.5,),
        flags=Flags.NONE,
        context=context,
    )
    log.append([record.pack()])
    assert shipping_lag_s(tmp_path, connect, now) == pytest.approx(90, abs=0.1)
    shipper = PredictionShipper(tmp_path, connect)
    shipper.run_once()
    assert shipping_lag_s(tmp_path, connect, now) == 0
    shipper.close()
    log.close()
