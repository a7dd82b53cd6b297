"""Acts on a request for a new model: trains it, asks the gates, enters it as challenger; no more.

Every step is recorded when it is done, and finds out what was done before: a process that dies at
any moment leaves the champion serving, and the next one goes on where it ended.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime

from configs.command_line import done, note
from configs.errors import FTIError
from configs.settings import Settings
from feature_store.errors import StoreUnavailable
from feature_store.offline.postgres import translated
from models.connect import (
    admission,
    champion_of,
    current_deployment,
    experiment_plan,
    model_registry,
    now,
    postgres,
    promoter,
)
from models.errors import DeploymentConflict, DeploymentRefused, RegistryUnavailable
from models.gates.rules import Decision
from models.registry.versions import ModelVersion
from monitoring.connect import retraining_store
from monitoring.log.labels import adopt_labels
from monitoring.retraining_requests import RetrainingRequest, RetrainingStore
from pipelines.training_pipeline import training_pipeline

AWAY = (StoreUnavailable, RegistryUnavailable, DeploymentConflict)
"""What passes by itself: the request stays open, and the next run goes on."""


def train_version(start: datetime, end: datetime) -> ModelVersion:
    """Train as `training_pipeline` does; a version of the same data, settings and code is kept."""
    version = training_pipeline(start=start.isoformat(), end=end.isoformat(), reuse=True)
    assert version is not None
    return version


@dataclass(frozen=True)
class Retraining:
    """Carries a request through its steps.

    Parameters
    ----------
    clock
        Gives the present time in UTC.
    train
        Trains a version of the labels of a range, or gives the one that there is.
    """

    settings: Settings
    store: RetrainingStore
    clock: Callable[[], datetime] = now
    train: Callable[[datetime, datetime], ModelVersion] = train_version

    def act(self) -> RetrainingRequest | None:
        """Take the open request as far as it can be taken; None when there is none.

        Raises
        ------
        StoreUnavailable, RegistryUnavailable
            If a server is away: the request stays open.
        """
        with self.store.alone() as is_alone:
            request = self.store.open()
            if request is None or not is_alone:
                return request
            try:
                return self._advance(request)
            except AWAY:
                raise
            except FTIError as error:
                return self.store.move(request, "failed", str(error), self.clock())

    def _advance(self, request: RetrainingRequest) -> RetrainingRequest:
        if request.status == "requested":
            request = self._begin(request)
        if request.status == "training":
            request = self._train(request)
        if request.status == "judging":
            request = self._challenge(request)
        if request.status == "experiment":
            request = self._follow(request)
        return request

    def _begin(self, request: RetrainingRequest) -> RetrainingRequest:
        with (
            translated("Labels cannot be adopted"),
            closing(postgres(self.settings)()) as connection,
        ):
            adopted = adopt_labels(connection)
        detail = f"{adopted:,} labels of predictions became labels of users"
        return self.store.move(request, "training", detail, self.clock(), adopted=adopted)

    def _train(self, request: RetrainingRequest) -> RetrainingRequest:
        """Train on the rows that the request names; a version of the very same is kept."""
        start = request.data_start or self.settings.training.start
        version = self.train(start, request.data_end)
        detail = f"{version.label} learned from labels of [{start:%F}, {request.data_end:%F %H:%M})"
        return self.store.move(request, "judging", detail, self.clock(), label=version.label)

    def _challenge(self, request: RetrainingRequest) -> RetrainingRequest:
        """Let the gates decide; enter what passes as challenger of the champion."""
        registry = model_registry(self.settings)
        deploys = replace(promoter(self.settings), clock=self.clock)
        with closing(deploys.store):
            version = registry.find(str(request.label))
            current = deploys.store.current()
            if current is None:
                raise DeploymentRefused("Nothing serves, so there is no champion to challenge.")
            other = current.challenger
            if other is not None and other.label != version.label:
                note(f"{version.label} waits: {other.label} is under test")
                return request
            decision = self._gate_decision(version)
            if not decision.passed:
                reasons = "; ".join(f"{each.gate}: {each.reason}" for each in decision.failed)
                return self.store.move(request, "refused", reasons, self.clock())
            share = self.settings.monitoring.retraining.challenger_share
            reason = f"retraining request {request.request_id}: {request.reason}"
            test, plan = self.settings.deployment.ab_test, experiment_plan(self.settings)
            deploys.start_ab_test(version, share, test.salt, reason, plan=plan)
        detail = f"{version.label} challenges {current.champion.label} on {share:.0%} of traffic"
        return self.store.move(request, "experiment", detail, self.clock(), share=share)

    def _gate_decision(self, version: ModelVersion) -> Decision:
        """The newest decision of the gates; they are asked now unless it is of this champion."""
        gates, champion = admission(self.settings), champion_of(self.settings)
        decision = gates.decisions.newest(version)
        if decision is None or (champion and decision.champion_digest != champion.digest):
            decision = gates.judge_and_record(version, champion)
        return decision

    def _follow(self, request: RetrainingRequest) -> RetrainingRequest:
        """See what became of the experiment."""
        current = current_deployment(self.settings)
        if current is not None and current.champion.label == request.label:
            detail = f"{request.label} won its experiment and is the champion"
            return self.store.move(request, "promoted", detail, self.clock())
        if current is None or request.label not in {arm.label for arm in current.arms}:
            detail = f"{request.label} was withdrawn; the champion stays"
            return self.store.move(request, "withdrawn", detail, self.clock())
        return request


def retrain(settings: Settings, clock: Callable[[], datetime] = now) -> RetrainingRequest | None:
    """Act on the open request and say what came of it."""
    store = retraining_store(settings)
    request = Retraining(settings, store, clock).act()
    if request is None:
        done("No retraining is asked for")
        return None
    for step in store.steps(request.request_id):
        note(f"{step.at:%F %H:%M:%S}  {step.step}: {step.detail}")
    done(
        f"Retraining request {request.request_id} ({request.label or 'no version yet'}): "
        f"{request.status}"
    )
    return request
