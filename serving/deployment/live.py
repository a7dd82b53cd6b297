"""What serves now in this worker: one deployment with its models in memory.

A worker looks at the file that its host's agent writes. A new deployment is loaded beside the old
and then one reference is replaced: a request that began on the old one ends on it. Whatever fails,
the old one serves on; and as the file stays, also after a restart with everything else gone.
"""

from __future__ import annotations

import logging
import time

from configs.errors import FTIError
from models.deployment.record import Deployment
from serving.deployment.current_file import (
    AgentFile,
    AgentState,
    CurrentFile,
    RestageRequest,
    Stamp,
)
from serving.deployment.live_arms import LiveDeployment, live_deployment
from serving.errors import NothingDeployed
from serving.model_loader import ModelLoader

logger = logging.getLogger(__name__)

UNCONFIRMED_AFTER_S = 5.0
"""So long the record may be unreadable before answers say so."""
RETRY_LOADING_S = 1.0
NOTHING_DEPLOYED = (
    "No model is deployed. Train one and deploy it: python pipelines/training_pipeline.py, then "
    "python pipelines/deployment.py --model-name LABEL --stage production"
)


class DeploymentWatcher:
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

    @property
    def problem(self) -> FTIError | None:
        """What keeps the deployment that is staged from being served, if anything does."""
        return self._refused[2] if self._refused else None

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
        if self.problem is not None:
            return str(self.problem)
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
        if self.live is None or self.live.deployment != deployment:
            self._activate(self._load(deployment))

    def _load(self, deployment: Deployment) -> LiveDeployment:
        """Load the models of a deployment; those already in memory are used again."""
        loaded = {arm.model.digest: arm.model for arm in self.live.arms} if self.live else {}
        models = [loaded.get(arm.digest) or self.loader.load_staged(arm) for arm in deployment.arms]
        return live_deployment(deployment, models, self.engine)

    def _activate(self, loaded: LiveDeployment) -> None:
        self.live = loaded
        self.swaps += 1
        arms = ", ".join(f"{arm.arm.label} {arm.arm.share:.0%}" for arm in loaded.arms)
        logger.info("deployment %d is live: %s", loaded.deployment.generation, arms)
