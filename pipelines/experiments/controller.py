"""Carries out what the evidence of an A/B test calls for; of two controllers one acts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from getpass import getuser

from configs.command_line import note
from configs.settings import Settings
from feature_store.errors import StoreUnavailable
from feature_store.online.row_codec import microseconds_of
from models.connect import deployment_store, now, promoter as promoter_of
from models.deployment.ab_tests import under_test
from models.deployment.plan import ExperimentPlan
from models.deployment.promotion import Promoter
from models.deployment.record import Deployment
from models.deployment.store import DeploymentStore
from models.errors import DeploymentConflict, DeploymentRefused, RegistryUnavailable
from monitoring.connect import experiment_store, exposure_reader
from monitoring.experiments.evidence import Evidence, weigh
from monitoring.experiments.exposure_reader import ExposureReader, Phases
from monitoring.experiments.store import ExperimentDecision, ExperimentStore
from monitoring.experiments.verdict import Standing, Verdict, decide


@dataclass(frozen=True)
class Look:
    """A running test, what is known of it, and what that calls for."""

    deployment: Deployment
    phases: Phases
    plan: ExperimentPlan
    evidence: Evidence
    verdict: Verdict
    at: datetime

    def decision(self, verdict: Verdict, decided_by: str) -> ExperimentDecision:
        """The record of a decision that stands on this."""
        challenger = under_test(self.deployment)
        return ExperimentDecision(
            experiment=str(self.deployment.experiment),
            champion=self.deployment.champion.label,
            challenger=challenger.label,
            generation=self.deployment.generation,
            action=verdict.action,
            reason=verdict.reason,
            decided_by=decided_by,
            decided_at=self.at,
            plan=self.plan.to_dict(),
            evidence=self.evidence.to_dict(),
        )


@dataclass(frozen=True)
class Outcome:
    """A decision, and what became of it.

    Parameters
    ----------
    is_new
        Whether it was kept; not when it only repeats the one before.
    deployment
        What it led to, if anything.
    """

    decision: ExperimentDecision
    is_new: bool
    deployment: Deployment | None = None


@dataclass(frozen=True)
class ExperimentObserver:
    """Looks at the running test; changes nothing.

    Parameters
    ----------
    deployments
        What is deployed, and was.
    exposures
        Reads predictions and labels.
    clock
        Gives the present time in UTC.
    """

    deployments: DeploymentStore
    exposures: ExposureReader
    clock: Callable[[], datetime]

    def look(self) -> Look:
        """Weigh the evidence of the running test.

        Raises
        ------
        DeploymentRefused
            If there is none.
        """
        history = self.deployments.history()
        current = history[-1] if history else None
        share = under_test(current).share
        assert current is not None
        plan = current.plan or ExperimentPlan()
        phases = Phases.of(history, str(current.experiment))
        found = self.exposures.read(
            str(current.experiment), phases, plan.label_horizon_s, plan.slices
        )
        now = self.clock()
        now_us = microseconds_of(now)
        words = self.exposures.words(plan.slices)
        evidence = weigh(found, plan, current.mode, phases.shares, now_us, words)
        standing = Standing(share, phases.started_at, phases.last_at, now)
        verdict = decide(evidence, plan, standing)
        return Look(current, phases, plan, evidence, verdict, now)


@dataclass(frozen=True)
class ExperimentController:
    """Acts on the running test.

    Parameters
    ----------
    observer
        Looks at it.
    promoter
        Changes deployments.
    decisions
        Keeps what was decided, before it is carried out.
    """

    observer: ExperimentObserver
    promoter: Promoter
    decisions: ExperimentStore

    def decide(self, *, keep_unchanged: bool = True) -> Outcome | None:
        """Decide and act; None while somebody else does.

        Parameters
        ----------
        keep_unchanged
            Whether to keep a decision to go on that stands on nothing new.

        Raises
        ------
        DeploymentRefused
            If there is no test.
        """
        with self.decisions.alone() as is_mine:
            if not is_mine:
                return None
            look = self.observer.look()
            decision = look.decision(look.verdict, f"controller ({getuser()})")
            if not keep_unchanged and self._is_known(decision):
                return Outcome(decision, is_new=False)
            return self._carry_out(decision, look.verdict.share)

    def overrule(self, verdict: Verdict) -> Outcome:
        """Do what somebody asks for, whatever the evidence says; both are kept.

        Raises
        ------
        DeploymentRefused
            If there is no test, or it cannot be done.
        """
        look = self.observer.look()
        reason = verdict.reason or f"by hand, while the evidence says: {look.verdict.action}"
        asked = Verdict(verdict.action, reason, verdict.share)
        return self._carry_out(look.decision(asked, getuser()), asked.share)

    def _is_known(self, decision: ExperimentDecision) -> bool:
        newest = self.decisions.of(decision.experiment, newest=1)
        return (
            decision.action == "continue"
            and bool(newest)
            and (newest[0].reason, newest[0].evidence["exposures"])
            == (decision.reason, decision.evidence["exposures"])
        )

    def _carry_out(self, decision: ExperimentDecision, share: float | None) -> Outcome:
        """Keep the decision, then act: who dies between leaves word of what was meant."""
        number = self.decisions.add(decision)
        reason = f"decision {number} by {decision.decided_by}: {decision.reason}"
        name, deployment = decision.experiment, None
        if decision.action == "promote":
            deployment = self.promoter.promote_challenger(reason, name)
        elif decision.action == "rollback":
            deployment = self.promoter.roll_back(reason, name)
        elif decision.action == "ramp":
            assert share is not None
            deployment = self.promoter.widen(share, reason, name)
        return Outcome(replace(decision, decision_id=number), True, deployment)


def observer_of(settings: Settings) -> ExperimentObserver:
    """Build the observer; it needs PostgreSQL only."""
    return ExperimentObserver(deployment_store(settings), exposure_reader(settings), now)


def controller_of(settings: Settings) -> ExperimentController:
    """Build the controller; refuses at once when MLflow does not answer."""
    promoter = promoter_of(settings)
    promoter.registry.refuse_unreachable()
    return ExperimentController(observer_of(settings), promoter, experiment_store(settings))


def watch(controller: ExperimentController, interval_s: float | None) -> Iterator[Outcome | None]:
    """Decide once, or again and again until the test ends; gives what is new.

    None is given when somebody else is deciding. Failures of the servers are waited out.
    """
    if interval_s is None:
        yield controller.decide()
        return
    was_alone, has_begun = True, False
    while True:
        try:
            outcome = controller.decide(keep_unchanged=False)
        except (StoreUnavailable, RegistryUnavailable, DeploymentConflict) as error:
            note(f"{error} Trying again in {interval_s:g} s.")
            time.sleep(interval_s)
            continue
        except DeploymentRefused:
            if not has_begun:
                raise
            note("the test has ended")
            return
        has_begun = True
        if (outcome is None and was_alone) or (outcome is not None and outcome.is_new):
            yield outcome
        was_alone = outcome is not None
        if outcome is not None and outcome.decision.action in {"promote", "rollback"}:
            return
        time.sleep(interval_s)
