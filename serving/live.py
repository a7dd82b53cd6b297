"""What serves now: one deployment with its models, kept in step with the record of deployments.

A new record is staged beside the old (fetched, verified, tried) and then one reference is
replaced: a request that began on the old one ends on it. Whatever fails, the last good one serves
on, also after a restart: it is written to the local disk.
"""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from configs.errors import FTIError
from models.deployment import Arm, Deployment
from monitoring.prediction_record import Context, ScoredArm
from serving.errors import NothingDeployed
from serving.model_loader import LoadedModel, ModelLoader

logger = logging.getLogger(__name__)

UNCONFIRMED_AFTER_S = 5.0
"""So long the record may be unreadable before answers say so."""
RETRY_STAGING_S = 10.0
NOTHING_DEPLOYED = (
    "No model is deployed. Train one and deploy it: python pipelines/training_pipeline.py, then "
    "python pipelines/deployment.py --model-name LABEL --stage production"
)


@dataclass(frozen=True)
class LiveArm:
    """An arm that can answer, and what its receipts have in common."""

    arm: Arm
    model: LoadedModel
    context: Context


@dataclass(frozen=True)
class LiveDeployment:
    """A deployment whose models are all in memory."""

    deployment: Deployment
    arms: tuple[LiveArm, ...]


class DeploymentRecords(Protocol):
    """Where deployments are recorded."""

    def generation(self) -> int:
        """The newest generation, 0 for none."""

    def current(self) -> Deployment | None:
        """The newest record."""


class DeploymentWatcher:
    """Follows the record of deployments; `poll` is called again and again from one thread.

    Parameters
    ----------
    records
        The record to follow.
    loader
        Stages models.
    last_good
        The file that remembers what served last.
    engine
        What computes outputs, for the receipts.
    """

    def __init__(
        self,
        records: DeploymentRecords,
        loader: ModelLoader,
        last_good: Path,
        engine: str,
    ) -> None:
        self.records = records
        self.loader = loader
        self.last_good = last_good
        self.engine = engine
        self.live: LiveDeployment | None = None
        self.swaps = 0
        self._confirmed_at = time.monotonic()
        self._refused: tuple[int, float, FTIError] | None = None
        self._may_restore = True
        self._problem: FTIError | None = None

    @property
    def is_confirmed(self) -> bool:
        """Whether the record was read lately, so that nothing newer can be waiting for long."""
        return time.monotonic() - self._confirmed_at < UNCONFIRMED_AFTER_S

    def poll(self) -> None:
        """Look whether there is a new deployment, and if so make it live.

        Raises
        ------
        FTIError
            If the record cannot be read, or the new deployment cannot be staged; what was live
            stays so, or what served last becomes so.
        """
        try:
            generation = self.records.generation()
            self._confirmed_at = time.monotonic()
            if generation and not self._is_live(generation):
                self._follow(generation)
            self._problem = None
        except FTIError as error:
            self._problem = error
            if self.live is None and self._may_restore:
                self._may_restore = False
                self._restore()
            raise

    def require(self) -> LiveDeployment:
        """Give what is live.

        Raises
        ------
        NothingDeployed
            If nothing has ever been deployed here.
        FTIError
            If what is deployed could not be made live; the reason.
        """
        if self.live is None:
            raise self._problem or NothingDeployed(NOTHING_DEPLOYED)
        return self.live

    def _is_live(self, generation: int) -> bool:
        return self.live is not None and self.live.deployment.generation == generation

    def _follow(self, generation: int) -> None:
        if self._refused and self._refused[0] == generation:
            _, refused_at, error = self._refused
            if time.monotonic() - refused_at < RETRY_STAGING_S:
                raise error
        deployment = self.records.current()
        if deployment is None:
            return
        try:
            self._activate(self._stage(deployment))
        except FTIError as error:
            self._refused = generation, time.monotonic(), error
            raise
        self._remember(deployment)

    def _stage(self, deployment: Deployment) -> LiveDeployment:
        """Load the models of a deployment; those already in memory are used again."""
        loaded = {arm.model.digest: arm.model for arm in self.live.arms} if self.live else {}
        models = [loaded.get(arm.digest) or self.loader.load(arm) for arm in deployment.arms]
        arms = zip(deployment.arms, models, strict=True)
        return LiveDeployment(
            deployment,
            tuple(
                LiveArm(arm, model, self._context(deployment, arm, model)) for arm, model in arms
            ),
        )

    def _context(self, deployment: Deployment, arm: Arm, model: LoadedModel) -> Context:
        return Context(
            generation=deployment.generation,
            arm=arm.name,
            propensity=arm.share,
            scored=(ScoredArm(arm.name, arm.version, arm.label),),
            experiment=deployment.experiment,
            engine=self.engine,
            fingerprint=model.schema.fingerprint,
            threshold=model.threshold,
        )

    def _activate(self, staged: LiveDeployment) -> None:
        self.live = staged
        self.swaps += 1
        arms = ", ".join(f"{arm.arm.label} {arm.arm.share:.0%}" for arm in staged.arms)
        logger.info("deployment %d is live: %s", staged.deployment.generation, arms)

    def _remember(self, deployment: Deployment) -> None:
        """Write what is live to the disk, whole or not at all."""
        self.last_good.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.last_good.with_suffix(".new")
        with unfinished.open("w") as file:
            json.dump(deployment.to_dict(), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self.last_good)

    def _restore(self) -> None:
        """Serve what served last, when the record or the registry cannot be reached."""
        try:
            deployment = Deployment.from_dict(json.loads(self.last_good.read_text()))
            self._activate(self._stage(deployment))
        except FileNotFoundError:
            return
        except (FTIError, OSError, ValueError, KeyError, TypeError) as error:
            logger.error("what served last cannot be restored from %s: %s", self.last_good, error)
