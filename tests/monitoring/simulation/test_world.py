"""The simulated world: the same for the same seed, and each incident is noticed in time."""

import numpy as np
import polars as pl
import pytest

from configs.monitoring_config import DriftConfig, PerformanceConfig
from models.onnx.scorer import OnnxScorer
from monitoring.checks import performance
from monitoring.checks.drift import DriftReport, compare
from monitoring.errors import MonitoringRefused
from monitoring.simulation.world import FIRST_USER

SHIFT = {"kind": "covariate_shift", "column": "age", "strength": 0.8}
CONCEPT = {"kind": "concept_drift", "column": "relationship", "words": ["Husband", "Wife"]}


@pytest.fixture
def watcher(watching):
    """Gives what drift and accuracy a day of a world shows, without any database."""
    reference = watching.artifact.profile()
    scorer = OnnxScorer(watching.artifact.read("model.onnx"), len(watching.artifact.features))

    def watch(world, day):
        visits = world.day(day)
        if not len(visits):
            return compare(reference, reference.features.counted(visits.values)), None
        said = scorer.predict(visits.values)
        drift = compare(
            reference,
            reference.features.counted(visits.values),
            reference.scores.counted(said),
            DriftConfig(),
        )
        frame = pl.DataFrame(
            {
                "predicted_at": visits.times_us,
                "known_at": visits.known_us,
                "probability": said.astype(float),
                "decision": (said >= watching.artifact.threshold).astype(int),
                "label": visits.labels,
                "arm": "champion",
                "model_version": "v1",
            }
        ).with_columns(pl.col("predicted_at", "known_at").cast(pl.Datetime("us", "UTC")))
        report = performance.evaluate(
            frame, world.now(day), world.now(day + 9), PerformanceConfig()
        )
        return drift, report.whole.metrics["accuracy"].value

    return watch


def test_a_day_follows_from_seed_and_number(watching):
    world, again, other = watching.world(), watching.world(), watching.world(seed=8)
    for name in ("times_us", "users", "labels", "known_us"):
        assert getattr(world.day(3), name).tolist() == getattr(again.day(3), name).tolist()
    assert np.array_equal(world.day(3).values, again.day(3).values, equal_nan=True)
    assert world.day(3).times_us.tolist() != other.day(3).times_us.tolist()
    assert world.day(3).users.min() == FIRST_USER + 3 * 600


def test_labels_come_late_and_ones_later(watching):
    visits = watching.world(visits_a_day=5_000, label_delay_hours=6, ones_slower=2).day(0)
    hours = (visits.known_us - visits.times_us) / 3.6e9
    assert np.median(hours[visits.labels == 0]) == pytest.approx(6, rel=0.05)
    assert np.median(hours[visits.labels == 1]) == pytest.approx(12, rel=0.05)


def test_a_clean_month_raises_at_most_one_alarm(watching, watcher):
    world, alarms = watching.world(), 0
    for day in range(30):
        drift, accuracy = watcher(world, day)
        alarms += drift.has_drifted + (accuracy < 0.80)
    assert alarms <= 1


@pytest.mark.parametrize(
    ("incident", "feature"),
    [
        (SHIFT, "age"),
        ({"kind": "lost_column", "column": "occupation"}, "occupation"),
        ({"kind": "lost_column", "column": "hours_per_week", "strength": 0.3}, "hours_per_week"),
        ({"kind": "new_category", "column": "workclass", "strength": 0.05}, "workclass"),
    ],
)
def test_what_changes_is_named_on_its_first_day_and_forgotten_after_its_last(
    watching, watcher, incident, feature
):
    world = watching.world(incident | {"start_day": 2, "end_day": 4})
    noticed = []
    for day in range(6):
        drift, _ = watcher(world, day)
        noticed.append(feature in {each.name for each in drift.drifted})
    assert noticed == [False, False, True, True, False, False]


def test_a_drift_of_the_concept_shows_in_accuracy_and_not_in_features(watching, watcher):
    world = watching.world(CONCEPT | {"start_day": 2, "end_day": 3})
    found = [watcher(world, day) for day in range(4)]
    assert [drift.has_drifted for drift, _ in found] == [False] * 4
    assert [accuracy < 0.80 for _, accuracy in found] == [False, False, True, False]


def test_an_outage_is_an_empty_day_and_no_crash(watching, watcher):
    world = watching.world({"kind": "outage", "start_day": 1, "end_day": 2})
    assert [len(world.day(day)) for day in range(3)] == [600, 0, 600]
    drift, _ = watcher(world, 1)
    assert not isinstance(drift, DriftReport)


def test_slow_labels_are_slower(watching):
    world = watching.world({"kind": "slow_labels", "strength": 10.0, "start_day": 1})
    waits = [np.median(v.known_us - v.times_us) for v in (world.day(0), world.day(1))]
    assert waits[1] > 8 * waits[0]


@pytest.mark.parametrize(
    ("incident", "message"),
    [
        ({"kind": "lost_column", "column": "agee"}, "'agee', which is no raw column"),
        ({"kind": "covariate_shift", "column": "sex"}, "needs a number; 'sex' is none"),
    ],
)
def test_an_incident_that_cannot_be_is_refused(watching, incident, message):
    with pytest.raises(MonitoringRefused, match=message):
        watching.world(incident)
