"""A request for a new model leads to a challenger and no further, whatever dies on the way."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from configs.monitoring_config import RetrainingConfig
from models.connect import postgres
from models.errors import RegistryUnavailable, TrainingRefused
from monitoring.retraining_requests import RetrainingRequest, RetrainingStore
from pipelines.retraining import Retraining
from tests.worlds.models import POOR, World

CONFIG = RetrainingConfig(cooldown_hours=0, weekly_budget=9)
POINTS = (
    "after training",
    "registered, never judged",
    "before judging",
    "after judging",
    "registry changed, nothing recorded",
    "before experiment",
    "after experiment",
)


@dataclass
class Served:
    """A world with a champion, and requests for another."""

    world: World

    def __post_init__(self) -> None:
        self.champion = self.world.train(n_estimators=12)
        self.world.promoter.deploy(self.champion)

    @property
    def store(self) -> RetrainingStore:
        settings = self.world.settings
        return RetrainingStore(postgres(settings), settings.model_name)

    def ask(self) -> RetrainingRequest:
        now = datetime.now(UTC)
        request = self.store.request(CONFIG, "accuracy is low", ["low_accuracy"], None, now)
        assert isinstance(request, RetrainingRequest)
        return request

    def act(self, train) -> RetrainingRequest | None:
        return Retraining(self.world.settings, self.store, train=train).act()


@pytest.fixture
def served(world) -> Served:
    return Served(world)


def test_a_better_version_becomes_challenger_and_never_champion(served):
    served.ask()
    request = served.act(lambda start, end: served.world.train())
    assert request.status == "experiment"
    assert served.world.served == [served.champion.label, request.label]
    current = served.world.promoter.store.current()
    assert current.challenger.share == 0.5
    assert "retraining request 1: accuracy is low" in current.reason
    assert [step.step for step in served.store.steps(1)] == [
        *("requested", "training", "judging", "experiment"),
    ]
    again = served.act(lambda start, end: pytest.fail("it has been trained already"))
    assert again.status == "experiment"
    served.world.promoter.promote_challenger()
    assert served.act(None).status == "promoted"
    assert served.act(None) is None


def test_a_version_that_no_gate_lets_pass_is_refused_with_the_reasons(served):
    served.ask()
    request = served.act(lambda start, end: served.world.train(**POOR))
    assert request.status == "refused"
    assert served.world.served == [served.champion.label]
    assert "log_loss" in served.store.steps(1)[-1].detail


def test_a_challenger_that_is_withdrawn_ends_its_request(served):
    served.ask()
    served.act(lambda start, end: served.world.train())
    served.world.promoter.roll_back()
    assert served.act(None).status == "withdrawn"


def test_it_waits_while_another_version_is_under_test(served):
    other = served.world.train(seed=102)
    served.world.promoter.start_ab_test(other, 0.1, "")
    served.ask()
    request = served.act(lambda start, end: served.world.train())
    assert request.status == "judging"
    served.world.promoter.roll_back()
    assert served.act(None).status == "experiment"


def test_what_passes_by_itself_leaves_the_request_open(served):
    def away(start, end):
        raise RegistryUnavailable("MLflow is away.")

    served.ask()
    with pytest.raises(RegistryUnavailable):
        served.act(away)
    assert served.store.open().status == "training"
    assert served.act(lambda start, end: served.world.train()).status == "experiment"


def test_what_cannot_be_trained_fails_with_the_reason(served):
    def refused(start, end):
        raise TrainingRefused("All labels are 0.")

    served.ask()
    assert served.act(refused).status == "failed"
    assert served.store.steps(1)[-1].detail == "All labels are 0."
    assert served.world.served == [served.champion.label]


def test_training_is_asked_for_the_range_of_the_request(served):
    asked = []

    def train(start, end):
        asked.append((start, end))
        raise TrainingRefused("enough seen")

    now = datetime.now(UTC)
    config = RetrainingConfig(window_days=10)
    served.store.request(config, "why not", (), None, now)
    served.act(train)
    assert asked == [(now - timedelta(days=10), now)]


@pytest.mark.full
def test_killed_at_any_step_the_champion_serves_and_the_next_run_goes_on(served):
    served.ask()
    world = served.world
    for point in POINTS:
        process = world.start("-m", "tests.pipelines.dying_retraining", point)
        _, complaint = process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL, (point, complaint[-2000:])
        assert world.served[0] == served.champion.label, point
    process = world.start("pipelines/run.py", "retrain")
    said, complaint = process.communicate(timeout=300)
    assert process.returncode == 0, complaint[-2000:]
    [request] = served.store.requests()
    assert request.status == "experiment", said
    assert len(world.registry.versions()) == 2  # trained once, however often it began
    assert world.served == [served.champion.label, request.label]
    assert world.promoter.store.current().generation == 2
