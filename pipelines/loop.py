"""The loop on a simulated clock: visits, labels, monitoring, retraining, experiment, promotion."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from configs.settings import Settings
from models.connect import deployment_store, promoter
from models.deployment.record import Deployment
from models.registry.versions import ModelVersion
from monitoring.connect import (
    current_deployment,
    experiment_store,
    exposure_reader,
    pass_runner,
    retraining_store,
    simulation,
)
from monitoring.passes.follow_up import PassOutcome, PassRunner
from monitoring.retraining_requests import RetrainingRequest
from monitoring.simulation.simulation import Simulation
from pipelines.experiments.controller import ExperimentController, ExperimentObserver, Outcome
from pipelines.retraining import Retraining
from pipelines.training_pipeline import training_pipeline
from serving.ab_testing import bucket_of, choose


@dataclass(frozen=True)
class Day:
    """What came of one day.

    Parameters
    ----------
    monitoring
        What monitoring found at its end.
    request
        The retraining that was acted on, as it is then; None when there is none.
    outcome
        What was decided about a running experiment; None when there is none.
    """

    number: int
    visits: int
    monitoring: PassOutcome
    request: RetrainingRequest | None
    outcome: Outcome | None

    @property
    def accuracy(self) -> float | None:
        """Of the champion over the window; None where too few labels are known."""
        found = [
            each.value
            for each in self.monitoring.samples
            if each.metric == "accuracy" and each.labels == {"arm": "champion"}
        ]
        return found[0] if found else None


@dataclass
class Clock:
    """A clock that is set by hand."""

    now: datetime

    def __call__(self) -> datetime:
        """The present time in UTC."""
        return self.now


@dataclass
class Loop:
    """Plays a world against the real system, a day at a time.

    Parameters
    ----------
    settings
        Its stores must hold nothing else that matters: predictions and labels are simulated.
    start
        When the first day begins.
    """

    settings: Settings
    start: datetime
    clock: Clock = field(init=False)
    runner: PassRunner = field(init=False)
    simulation: Simulation = field(init=False)

    def __post_init__(self) -> None:
        self.clock = Clock(self.start)
        self.runner = pass_runner(self.settings)
        self.simulation = simulation(self.settings, self.start, assigned)

    def learn(self, days: int) -> ModelVersion:
        """Play days that only teach, then train a model of them and deploy it."""
        for day in range(-days, 0):
            self.simulation.teach(day)
        begin, end = self.simulation.world.now(-days), self.start
        version = training_pipeline(start=begin.isoformat(), end=end.isoformat(), reuse=True)
        assert version is not None
        deploys = replace(promoter(self.settings), clock=self.clock)
        deploys.deploy(version, "first model")
        return version

    def day(self, number: int) -> Day:
        """Play a day; then monitoring looks, and what it asks for is done."""
        visits = self.simulation.play(number)
        self.clock.now = self.simulation.world.now(number + 1)
        found = self.runner.run(self.clock.now)
        outcome = self._decide()
        store = retraining_store(self.settings)
        request = Retraining(self.settings, store, self.clock).act()
        return Day(number, visits, found, request, outcome)

    def _decide(self) -> Outcome | None:
        current = current_deployment(self.settings)
        if current is None or current.challenger is None:
            return None
        observer = ExperimentObserver(
            deployment_store(self.settings), exposure_reader(self.settings), self.clock
        )
        deploys = replace(promoter(self.settings), clock=self.clock)
        return ExperimentController(observer, deploys, experiment_store(self.settings)).decide()


def assigned(unit: str, deployment: Deployment) -> int:
    """The arm of a unit, as the API assigns it."""
    return choose(deployment.arms, bucket_of(unit, deployment.salt))
