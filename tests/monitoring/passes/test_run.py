"""A pass: every check on real stores, what follows from it, and nothing that makes it fall over."""

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import psycopg
import pytest

from configs.monitoring_config import (
    AlertsConfig,
    ContractConfig,
    PerformanceConfig,
    QualityConfig,
    RuleConfig,
)
from models.connect import postgres
from monitoring.alerting.rules import Alerts
from monitoring.alerting.states import Sample
from monitoring.alerting.store import AlertStore
from monitoring.checks.data_quality import Lags, QualityReport
from monitoring.checks.drift import DriftReport
from monitoring.checks.performance import PerformanceReport
from monitoring.checks.results import Failed, Skipped
from monitoring.checks.skew_audit import SkewReport
from monitoring.passes.follow_up import PassRunner
from monitoring.reporting.metrics import Gauges, samples_of
from monitoring.reporting.results_store import ResultsStore
from monitoring.retraining_requests import RetrainingRequest, RetrainingStore

CONCEPT = {"kind": "concept_drift", "column": "relationship", "words": ["Husband", "Wife"]}
LOST = {"kind": "lost_column", "column": "occupation"}


def new_runner(watching, **changes):
    config = watching.config.model_copy(update=changes)
    watching.config = config
    connect = postgres(watching.settings)
    alerts = Alerts(config.alerts, AlertStore(connect), [])
    name = "income-predictor"
    return PassRunner(
        config,
        watching.monitor(),
        ResultsStore(connect, name),
        alerts,
        RetrainingStore(connect, name),
    )


def test_a_clean_day_passes_every_check(watching):
    simulation = watching.simulation(visits_a_day=800, label_delay_hours=2)
    simulation.play(0)
    result = watching.monitor().run(simulation.world.now(1))
    found = {name: type(outcome) for name, outcome in result.outcomes.items()}
    assert found == {
        "drift": DriftReport,
        "performance": PerformanceReport,
        "label_drift": found["label_drift"],
        "skew": SkewReport,
        "quality": QualityReport,
    }
    outcomes = result.outcomes
    assert not outcomes["drift"].has_drifted
    assert not outcomes["label_drift"].has_drifted
    assert (outcomes["skew"].n, outcomes["skew"].mismatches) == (800, 0)
    assert outcomes["quality"].broken == ()
    assert outcomes["performance"].whole.metrics["accuracy"].value > 0.8
    assert {each.by for each in outcomes["performance"].groups} > {"arm", "model_version", "sex"}


def test_what_is_lost_upstream_fires_alerts_and_a_retraining_is_asked_for(watching):
    simulation = watching.simulation(CONCEPT, LOST, visits_a_day=800, label_delay_hours=2)
    runner = new_runner(watching)
    simulation.play(0)
    now = simulation.world.now(1)
    found = runner.run(now)
    firing = {alert.name: alert for alert in runner.alerts.firing()}
    assert {"low_accuracy", "feature_drift", "broken_contract"} <= set(firing)
    assert "occupation (missing" in firing["feature_drift"].message
    assert "missing of occupation" in firing["broken_contract"].message
    assert firing["low_accuracy"].severity == "critical"
    assert isinstance(found.asked, RetrainingRequest)
    assert found.asked.alerts[0] == "low_accuracy{arm=champion}"
    again = runner.run(now + timedelta(minutes=1))
    assert again.changed == []
    assert not isinstance(again.asked, RetrainingRequest)


def test_results_gauges_and_page_say_the_same(watching, tmp_path):
    simulation = watching.simulation(LOST, visits_a_day=400, label_delay_hours=2)
    runner = new_runner(watching)
    simulation.play(0)
    now = simulation.world.now(1)
    found = runner.run(now)
    [accuracy] = [
        s.value for s in found.samples if s.metric == "accuracy" and s.labels == {"arm": "champion"}
    ]
    results = runner.results
    assert results.values("accuracy", {"arm": "champion"}, now) == [accuracy]
    with psycopg.connect(watching.settings.database_url) as connection:
        [[version, kept]] = connection.execute(
            "SELECT model_version, results FROM monitoring_passes"
        ).fetchall()
    assert version == "income-xgb-v1"
    assert kept["drift"]["summary"] == found.result.outcomes["drift"].summary
    gauges = Gauges()
    gauges.show(found.samples, runner.alerts.firing(), {"log": 2}, now, 1.0)
    gauges.write(tmp_path / "metrics.prom")
    text = (tmp_path / "metrics.prom").read_text()
    assert f'fti_monitoring_accuracy{{arm="champion"}} {accuracy}' in text
    assert 'fti_monitoring_notices_waiting{sink="log"} 2.0' in text
    assert 'fti_monitoring_alert_firing{alert="feature_drift",severity="warning"} 1.0' in text
    page = runner.page(found)
    assert page.count("<svg") >= 1
    assert "http" not in page.split("</style>")[1]  # nothing from elsewhere
    for text in ("income-xgb-v1", "feature_drift", "occupation", "No skew", "Performance"):
        assert text in page


def test_before_anything_was_deployed_or_logged_everything_is_skipped(watching):
    monitor = watching.monitor()
    monitor.serving = lambda: None
    result = monitor.run(watching.world().now(0))
    skipped = {n for n, outcome in result.outcomes.items() if isinstance(outcome, Skipped)}
    assert {"drift", "performance", "label_drift", "skew"} <= skipped
    monitor = watching.monitor()
    result = monitor.run(watching.world().now(0))
    assert "0 rows are too few" in result.outcomes["drift"].reason
    assert result.failed == ()
    assert json.dumps(result.to_json())


def test_an_outage_gives_skips_and_no_alarm(watching):
    simulation = watching.simulation({"kind": "outage", "start_day": 1}, visits_a_day=300)
    runner = new_runner(watching)
    for day in range(3):
        simulation.play(day)
    found = runner.run(simulation.world.now(3))
    assert isinstance(found.result.outcomes["drift"], Skipped)
    assert isinstance(found.result.outcomes["skew"], Skipped)
    assert runner.alerts.firing() == []
    assert runner.page(found)


def test_an_artifact_from_before_profiles_is_skipped_with_what_to_do(watching):
    files = {n: h for n, h in watching.artifact.files.items() if n != "profile.json"}
    old = replace(watching.serving, artifact=replace(watching.artifact, files=files))
    watching.simulation(visits_a_day=300).play(0)
    outcome = watching.monitor(old).run(watching.world().now(1)).outcomes["drift"]
    assert isinstance(outcome, Skipped)
    assert "before profiles were kept with models; train" in outcome.reason


def test_predictions_from_requests_are_no_drift_and_said_to_be_left_out(watching):
    watching.simulation(LOST, visits_a_day=300).play(0)
    with psycopg.connect(watching.settings.database_url, autocommit=True) as connection:
        connection.execute("UPDATE predictions SET flags = '{request_attributes}'")
    outcome = watching.monitor().run(watching.world().now(1)).outcomes["drift"]
    assert "300 from attributes of requests were left out" in outcome.reason


def test_old_results_are_thinned_out_to_one_an_hour(watching):
    results = ResultsStore(postgres(watching.settings), "m", keep=timedelta(days=2))
    start = watching.world().now(0)
    for minutes in range(0, 3 * 24 * 60, 20):
        at = start + timedelta(minutes=minutes)
        results.add(at, "v1", 0.1, {}, [Sample("accuracy", float(minutes))])
    kept = results.values("accuracy", {}, start)
    assert kept[-1] == 3 * 24 * 60 - 20
    last = 3 * 24 * 60 - 20
    of_the_last_day = [value for value in kept if value >= last - 24 * 60]
    before = [value for value in kept if value < last - 24 * 60]
    assert len(of_the_last_day) == 73
    assert all(value % 60 == 0 for value in before)
    assert min(before) >= last - 2 * 24 * 60


def test_a_check_that_fails_keeps_no_other_from_its_work(watching):
    watching.simulation(visits_a_day=300).play(0)
    monitor = watching.monitor()
    monitor.audit = None
    result = monitor.run(watching.world().now(1))
    assert isinstance(result.outcomes["skew"], Failed)
    assert isinstance(result.outcomes["drift"], DriftReport)
    [sample] = [s for s in samples_of(result, 100) if s.metric == "failed_checks"]
    assert (sample.value, sample.detail.startswith("skew: ")) == (1, True)


@pytest.mark.parametrize(
    ("incident", "contract", "clause"),
    [
        ({"kind": "duplicates", "strength": 0.1}, {"max_duplicate_share": 0.02}, "duplicates"),
        (LOST, {"max_missing_share": {"occupation": 0.1}}, "missing"),
        (
            {"kind": "new_category", "column": "workclass", "strength": 0.2},
            {"max_unseen_share": {"*": 0.05}},
            "unseen",
        ),
        ({"kind": "outage", "end_day": 0}, {"min_rows": 500}, "volume"),
        ({"kind": "outage", "end_day": 0}, {"max_rows": 100}, "volume"),
    ],
)
def test_a_broken_contract_is_named(watching, incident, contract, clause):
    quality = QualityConfig(predictions=ContractConfig(**contract))
    watching.config = watching.config.model_copy(update={"quality": quality})
    watching.simulation(incident, visits_a_day=300).play(0)
    report = watching.monitor().run(watching.world().now(1)).outcomes["quality"]
    assert {each.name for each in report.broken} == {clause}


def test_values_outside_their_declared_range_break_the_contract(watching):
    quality = QualityConfig(predictions=ContractConfig(max_out_of_range_share=0.01))
    watching.config = watching.config.model_copy(update={"quality": quality})
    simulation = watching.simulation(visits_a_day=300)
    simulation.play(0)
    with psycopg.connect(watching.settings.database_url, autocommit=True) as connection:
        place = watching.artifact.feature_schema.position("age") + 1
        connection.execute(f"UPDATE predictions SET features[{place}] = 200 WHERE user_id % 5 = 0")
    report = watching.monitor().run(simulation.world.now(1)).outcomes["quality"]
    assert [(each.name, each.subject) for each in report.broken] == [("range", "age")]


def test_old_stores_and_lags_break_the_contract(watching):
    quality = QualityConfig(
        max_age_hours={"user_features": 12, "nobody_fills": 1},
        max_event_age_hours={"user_features": 48},
        max_stream_backlog=10,
        max_shipping_lag_s=60,
    )
    watching.config = watching.config.model_copy(update={"quality": quality})
    simulation = watching.simulation(visits_a_day=300)
    simulation.play(0)
    monitor = watching.monitor(lags=Lags(stream_backlog=11, shipping_s=5))
    report = monitor.run(simulation.world.now(2)).outcomes["quality"]
    assert {(each.name, each.subject) for each in report.broken} == {
        ("freshness", "user_features"),
        ("freshness", "nobody_fills"),
        ("stream_backlog", "events"),
    }


def test_a_new_champion_brings_its_own_record_along(watching):
    """The values of an arm are those of the version that serves in it now."""
    simulation = watching.simulation(visits_a_day=300, label_delay_hours=1)
    simulation.play(0)
    with psycopg.connect(watching.settings.database_url, autocommit=True) as connection:
        connection.execute("UPDATE predictions SET arm = 'challenger' WHERE user_id % 2 = 0")
        connection.execute("UPDATE predictions SET model_version = 'old' WHERE user_id % 2 = 1")
    watching.config = watching.config.model_copy(
        update={"performance": PerformanceConfig(min_labels=50)}
    )
    result = watching.monitor().run(simulation.world.now(1))
    samples = samples_of(result, 50)
    groups = {(g.by, g.word): g for g in result.outcomes["performance"].groups}
    [found] = [s for s in samples if s.metric == "accuracy" and s.labels == {"arm": "champion"}]
    assert found.value == groups["model_version", "income-xgb-v1"].metrics["accuracy"].value
    assert np.isfinite(found.value)


def test_rules_see_the_values_of_earlier_passes(watching):
    rule = RuleConfig(
        name="few",
        metric="window_predictions",
        comparator="<",
        threshold=450,
        window_minutes=3000,
        owner="us",
        runbook="docs/monitoring.md#alerts",
    )
    runner = new_runner(watching, alerts=AlertsConfig(rules=[rule]))
    simulation = watching.simulation(visits_a_day=500)
    for day in range(2):
        simulation.play(day)
        runner.run(simulation.world.now(day + 1))
    assert runner.alerts.firing() == []
    now = simulation.world.now(2) + timedelta(hours=12)
    runner.run(now)  # 250 in the last day: 417 on average
    assert [alert.value for alert in runner.alerts.firing()] == [pytest.approx(417, abs=20)]
