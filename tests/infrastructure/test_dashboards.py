"""Every query of dashboards and rules asks for what a running API or monitoring exposes."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import UTC, datetime

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from configs.settings import ROOT
from infrastructure.dashboards import panels
from monitoring.alerting.states import Sample
from monitoring.checks.data_quality import Lags
from monitoring.reporting.metrics import Gauges, samples_of
from tests.worlds.monitoring import Watching, people_of, train_artifact
from tests.worlds.rows import first_rows
from tests.worlds.serving import new_world, running_api

ADDED = {"job", "instance", "le"}
"""Labels that Prometheus adds, or that a histogram has by itself."""
Exposed = dict[str, set[str]]


def rules() -> list[dict]:
    folder = ROOT / "infrastructure" / "prometheus" / "rules"
    pages = [yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yml"))]
    return [rule for page in pages for group in page["groups"] for rule in group["rules"]]


def queries() -> list[str]:
    drawn = [
        query
        for dashboard in panels().values()
        for panel in dashboard["panels"]
        for query in panel["queries"].values()
    ]
    return [*drawn, *(rule["expr"] for rule in rules())]


def metrics_in(query: str) -> set[str]:
    return set(re.findall(r"\bfti_[a-z0-9_]+", query))


def labels_in(query: str) -> set[str]:
    grouped = re.findall(r"\b(?:by|ignoring) \(([^)]*)\)", query)
    selected = re.findall(r"([a-z_]+)(?:=~|!=|=)\"", query)
    return {label.strip() for group in grouped for label in group.split(",")} | set(selected)


def exposed(text: str) -> Exposed:
    found: Exposed = defaultdict(set)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] |= sample.labels.keys()
    return found


def check(found: Exposed, ours: list[str]) -> None:
    for query in ours:
        metrics = metrics_in(query)
        assert metrics <= found.keys(), query
        known = set().union(*(found[metric] for metric in metrics))
        assert labels_in(query) - ADDED <= known, query


def test_recorded_rules_that_are_asked_for_are_recorded() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = {name for query in queries() for name in re.findall(r"\bfti:[a-z0-9_:]+", query)}
    assert asked <= recorded


def test_the_api_exposes_what_is_asked_of_it(settings, tmp_path) -> None:
    with new_world(settings, tmp_path) as world:
        world.deploy(1)
        with running_api(world) as api:
            for body in ({"user_id": 1}, {"age": 35}, {"user_id": 2, "age": 35}):
                api.post("/predict", json=body)
            api.post("/predict/batch", json={"rows": [{"user_id": 1}]})
            text = api.get("/metrics").text
    found = exposed(text)
    # Nothing of these has happened yet, so they have no sample; their labels are those of the code.
    found |= {
        "fti_http_requests_refused_total": {"reason"},
        "fti_predictions_degraded_total": {"reason"},
        "fti_batch_predictions_degraded_total": {"reason"},
    }
    names = {family.name for family in text_string_to_metric_families(text)}
    assert {"fti_http_requests_refused", "fti_predictions_degraded"} <= names
    check(found, [q for q in queries() if metrics_in(q) and "fti_monitoring_" not in q])


@pytest.mark.full
def test_monitoring_exposes_what_is_asked_of_it(settings, database_url, tmp_path) -> None:
    own, rows = settings.model_copy(update={"database_url": database_url}), first_rows(12_000)
    watching = Watching(own, train_artifact(rows, tmp_path / "artifact"), people_of(rows))
    simulation = watching.simulation(visits_a_day=600, label_delay_hours=2)
    simulation.play(0)
    result = watching.monitor(lags=Lags(stream_backlog=11)).run(simulation.world.now(1))
    gauges = Gauges()
    samples = [*samples_of(result, 50), Sample("notices_waiting", 2, {"sink": "log"})]
    gauges.show(samples, [], {}, datetime.now(UTC), 1.0)
    found: Exposed = defaultdict(set)
    for family in gauges.collect():
        for sample in family.samples:
            found[sample.name] |= sample.labels.keys()
    check(found, [q for q in queries() if "fti_monitoring_" in q])
