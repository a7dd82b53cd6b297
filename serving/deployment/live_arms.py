"""A deployment in memory: its arms, and which of them answers whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from models.deployment.plan import ExperimentPlan
from models.deployment.record import Arm, Deployment
from monitoring.log.record import Context, ScoredArm
from serving.ab_testing import bucket_of, choose
from serving.model_loader import LoadedModel


@dataclass(frozen=True)
class LiveArm:
    """An arm that can answer, and what its receipts have in common.

    Parameters
    ----------
    is_watched
        Whether an A/B test is running, so that slow answers are noted.
    budget_s
        What an answer of the test may take.
    beside
        In a paired test: the other model, which scores every request too.
    instead
        In a test: what answers when the challenger cannot; None where nothing can.
    """

    arm: Arm
    model: LoadedModel
    context: Context
    is_watched: bool = False
    budget_s: float = 0.0
    beside: LoadedModel | None = None
    instead: LiveArm | None = None


@dataclass(frozen=True)
class LiveDeployment:
    """A deployment whose models are all in memory.

    Parameters
    ----------
    overrides
        Units that always get an arm.
    """

    deployment: Deployment
    arms: tuple[LiveArm, ...]
    overrides: Mapping[str, LiveArm] = field(default_factory=dict)

    def arm_of(self, unit: str) -> LiveArm:
        """Give the arm that answers a unit."""
        if len(self.arms) == 1:
            return self.arms[0]
        overruled = self.overrides.get(unit) if self.overrides else None
        if overruled is not None:
            return overruled
        deployment = self.deployment
        return self.arms[choose(deployment.arms, bucket_of(unit, deployment.salt))]


def live_deployment(
    deployment: Deployment, models: Sequence[LoadedModel], engine: str
) -> LiveDeployment:
    """Join a deployment with its models, in the order of its arms."""
    pairs = list(zip(deployment.arms, models, strict=True))
    plain = tuple(
        LiveArm(arm, model, _context(deployment, arm, pairs, engine)) for arm, model in pairs
    )
    if len(plain) == 1:
        return LiveDeployment(deployment, plain)
    champion, challenger = (_in_test(arm, other, deployment) for arm, other in (plain, plain[::-1]))
    if champion.model.schema.fingerprint == challenger.model.schema.fingerprint:
        # The receipt is still one of the challenger's turns, with the challenger's chance.
        turn = replace(champion.context, propensity=challenger.arm.share)
        challenger = replace(challenger, instead=replace(champion, context=turn))
    named = {"champion": champion, "challenger": challenger}
    return LiveDeployment(
        deployment,
        (champion, challenger),
        {unit: _certain(named[arm]) for unit, arm in deployment.overrides},
    )


def _context(
    deployment: Deployment,
    arm: Arm,
    pairs: Sequence[tuple[Arm, LoadedModel]],
    engine: str,
) -> Context:
    [model] = [model for each, model in pairs if each is arm]
    scoring = pairs if deployment.mode == "paired" else [(arm, model)]
    is_test = deployment.experiment is not None  # else nobody asks for thresholds
    return Context(
        generation=deployment.generation,
        arm=arm.name,
        propensity=arm.share,
        scored=tuple(
            ScoredArm(a.name, a.version, a.label, m.threshold if is_test else None)
            for a, m in scoring
        ),
        experiment=deployment.experiment,
        engine=engine,
        fingerprint=model.schema.fingerprint,
        threshold=model.threshold,
    )


def _in_test(live: LiveArm, other: LiveArm, deployment: Deployment) -> LiveArm:
    plan = deployment.plan or ExperimentPlan()
    return replace(
        live,
        is_watched=True,
        budget_s=plan.latency_budget_ms / 1000,
        beside=other.model if deployment.mode == "paired" else None,
    )


def _certain(live: LiveArm) -> LiveArm:
    """The arm for units that had no chance of another one."""
    instead = _certain(live.instead) if live.instead else None
    return replace(live, context=replace(live.context, propensity=1.0), instead=instead)
