"""What serves now in this worker: one deployment with its models in memory.

A worker looks at the file that its host's agent writes. A new deployment is loaded beside the old
and then one reference is replaced: a request that began on the old one ends on it. Whatever fails,
the old one serves on; and as the file stays, also after a restart with everything else gone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from configs.errors import FTIError
from models.deployment.plan import ExperimentPlan
from models.deployment.record import Arm, Deployment
from monitoring.log.record import Context, ScoredArm
from serving.ab_testing import bucket_of, choose
from serving.deployment.current_file import (
    AgentFile,
    AgentState,
    CurrentFile,
    RestageRequest,
    Stamp,
)
from serving.errors import NothingDeployed
from serving.model_loader import LoadedModel, ModelLoader

logger = logging.getLogger(__name__)

UNCONFIRMED_AFTER_S = 5.0
"""So long the record may be unreadable before answers say so."""
RETRY_LOADING_S = 1.0
NOTHING_DEPLOYED = (
    "No model is deployed. Train one and deploy it: python pipelines/training_pipeline.py, then "
    "python pipelines/deployment.py --model-name LABEL --stage production"
)


@dataclass(frozen=True)
class LiveArm:
    """An arm that can answer, and what its receipts have in common.

    Parameters
    ----------
    is_in_test
        Whether an A/B test is running, so that slow answers are noted.
    budget_s
        What an answer of the test may take.
    paired
        In a paired test: the other model, which scores every request too.
    fallback
        In a test: what answers when the challenger cannot; None where nothing can.
    """

    arm: Arm
    model: LoadedModel
    context: Context
    is_in_test: bool = False
    budget_s: float = 0.0
    paired: LoadedModel | None = None
    fallback: LiveArm | None = None


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


class DeploymentFollower:
    """Keeps a worker at what is staged; `poll` is called again and again from one thread.

    Parameters
    ----------
    current
        The file that says what to serve.
    report
        The file in which the host's agent says how it goes.
    request
        Asks the agent to stage again what cannot be loaded.
    loader
        Reads models from the local disk.
    engine
        What computes outputs, for the receipts.

    Attributes
    ----------
    live
        What serves: read it once for all that belongs together.
    is_confirmed
        Whether the record of deployments was read lately, so that nothing newer waits for long.
    """

    def __init__(
        self,
        current: CurrentFile,
        report: AgentFile,
        request: RestageRequest,
        loader: ModelLoader,
        engine: str,
    ) -> None:
        self.current = current
        self.report = report
        self.request = request
        self.loader = loader
        self.engine = engine
        self.live: LiveDeployment | None = None
        self.swaps = 0
        self.refusals = 0
        self.is_confirmed = True
        self._started_at = time.time()
        self._agent = AgentState()
        self._agent_stamp: Stamp | None = None
        self._seen: Stamp | None = None
        self._refused: tuple[Stamp, float, FTIError] | None = None

    def poll(self) -> None:
        """Look whether something else is staged, and if so make it live."""
        self._look_at_agent()
        stamp = self.current.stamp()
        if stamp is None or stamp == self._seen or self._was_just_refused(stamp):
            return
        try:
            self._follow(self.current.read())
        except FTIError as error:
            self._refuse(stamp, error)
        else:
            self._seen, self._refused = stamp, None

    def require(self) -> LiveDeployment:
        """Give what is live.

        Raises
        ------
        NothingDeployed
            If nothing can be served here; the message says why.
        """
        if self.live is None:
            raise NothingDeployed(self.missing_because)
        return self.live

    @property
    def missing_because(self) -> str:
        """Why nothing is live."""
        if self._refused is not None:
            return str(self._refused[2])
        return self._agent.problem or NOTHING_DEPLOYED

    def _look_at_agent(self) -> None:
        stamp = CurrentFile(self.report.path).stamp()
        if stamp != self._agent_stamp:
            self._agent, self._agent_stamp = self.report.read(), stamp
        confirmed_at = max(self._agent.confirmed_at, self._started_at)
        self.is_confirmed = time.time() - confirmed_at < UNCONFIRMED_AFTER_S

    def _was_just_refused(self, stamp: Stamp) -> bool:
        if self._refused is None or self._refused[0] != stamp:
            return False
        return time.monotonic() - self._refused[1] < RETRY_LOADING_S

    def _refuse(self, stamp: Stamp, error: FTIError) -> None:
        if self._refused is None or self._refused[0] != stamp:
            self.refusals += 1
            logger.error("what is staged cannot be served: %s", error)
        self._refused = stamp, time.monotonic(), error
        self.request.ask()

    def _follow(self, deployment: Deployment) -> None:
        """Load the models of another deployment, those in memory excepted, and swap."""
        live = self.live
        if live is not None and live.deployment == deployment:
            return
        loaded = {arm.model.digest: arm.model for arm in live.arms} if live else {}
        models = [loaded.get(arm.digest) or self.loader.load_staged(arm) for arm in deployment.arms]
        self.live = live_deployment(deployment, models, self.engine)
        self.swaps += 1
        arms = ", ".join(f"{arm.label} {arm.share:.0%}" for arm in deployment.arms)
        logger.info("deployment %d is live: %s", deployment.generation, arms)


def live_deployment(
    deployment: Deployment, models: Sequence[LoadedModel], engine: str
) -> LiveDeployment:
    """Join a deployment with its models, in the order of its arms."""
    pairs = list(zip(deployment.arms, models, strict=True))
    plain = tuple(
        LiveArm(arm, model, _context(deployment, arm, model, pairs, engine)) for arm, model in pairs
    )
    if len(plain) == 1:
        return LiveDeployment(deployment, plain)
    champion, challenger = (_in_test(arm, other, deployment) for arm, other in (plain, plain[::-1]))
    if champion.model.schema.fingerprint == challenger.model.schema.fingerprint:
        # The receipt is still one of the challenger's turns, with the challenger's chance.
        turn = replace(champion.context, propensity=challenger.arm.share)
        challenger = replace(challenger, fallback=replace(champion, context=turn))
    named = {"champion": champion, "challenger": challenger}
    return LiveDeployment(
        deployment,
        (champion, challenger),
        {unit: _certain(named[arm]) for unit, arm in deployment.overrides},
    )


def _context(
    deployment: Deployment,
    arm: Arm,
    model: LoadedModel,
    pairs: Sequence[tuple[Arm, LoadedModel]],
    engine: str,
) -> Context:
    is_test = deployment.experiment is not None  # else nobody asks for thresholds
    return Context(
        generation=deployment.generation,
        arm=arm.name,
        propensity=arm.share,
        scored=tuple(
            ScoredArm(a.name, a.version, a.label, m.threshold if is_test else None)
            for a, m in (pairs if deployment.mode == "paired" else [(arm, model)])
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
        is_in_test=True,
        budget_s=plan.latency_budget_ms / 1000,
        paired=other.model if deployment.mode == "paired" else None,
    )


def _certain(live: LiveArm) -> LiveArm:
    """The arm for units that had no chance of another one."""
    fallback = _certain(live.fallback) if live.fallback else None
    return replace(live, context=replace(live.context, propensity=1.0), fallback=fallback)
