"""Models by deployment, also those that serve no longer."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Protocol

from models.deployment import Arm
from monitoring.postgres_reader import Rows
from monitoring.prediction_record import ScoredArm
from serving.errors import ModelUnusable
from serving.live import DeploymentWatcher
from serving.model_loader import LoadedModel, ModelLoader

KEPT = 4
"""So many models that serve no longer stay in memory."""
ARMS = (
    "SELECT arms FROM deployments WHERE model_name = %(model_name)s AND generation = %(generation)s"
)


class ReadsRows(Protocol):
    """What reads PostgreSQL."""

    async def rows(self, query: str, parameters: dict[str, object]) -> Rows:
        """Rows of a query."""


class PastModels:
    """Finds the model of an arm of any deployment, loading it where it is not in memory.

    Parameters
    ----------
    watcher
        Knows the deployment that is live.
    loader
        Loads the others.
    records
        Reads the record of deployments.
    model_name
        The registered model.
    """

    def __init__(
        self, watcher: DeploymentWatcher, loader: ModelLoader, records: ReadsRows, model_name: str
    ) -> None:
        self.watcher = watcher
        self.loader = loader
        self.records = records
        self.model_name = model_name
        self._kept: OrderedDict[str, LoadedModel] = OrderedDict()
        self._loading = asyncio.Lock()

    async def find(self, generation: int, scored: ScoredArm) -> LoadedModel:
        """Give the model that a deployment's arm scored with.

        Raises
        ------
        ModelUnusable
            If there is no record of it, or its artifact cannot be had as it was.
        StoreUnavailable
            If the record of deployments cannot be read.
        """
        return await self.load(await self.arm(generation, scored))

    async def load(self, arm: Arm) -> LoadedModel:
        """Give the model of an arm, from memory if it is there."""
        live = self.watcher.live
        for each in live.arms if live else ():
            if each.model.digest == arm.digest:
                return each.model
        async with self._loading:
            if arm.digest not in self._kept:
                self._kept[arm.digest] = await asyncio.to_thread(self.loader.load, arm)
            self._kept.move_to_end(arm.digest)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return self._kept[arm.digest]

    async def arm(self, generation: int, scored: ScoredArm) -> Arm:
        """Give the arm of a deployment that scored.

        Raises
        ------
        ModelUnusable
            If there is no record of it.
        StoreUnavailable
            If the record of deployments cannot be read.
        """
        live = self.watcher.live
        if live is not None and live.deployment.generation == generation:
            arms = list(live.deployment.arms)
        else:
            which = {"model_name": self.model_name, "generation": generation}
            rows = await self.records.rows(ARMS, which)
            arms = [Arm(**arm) for row in rows for arm in row["arms"]]
        for arm in arms:
            if (arm.version, arm.label) == (scored.version, scored.model_version):
                return arm
        raise ModelUnusable(
            f"{scored.model_version} cannot be loaded: deployment {generation} of "
            f"'{self.model_name}' is not recorded with it."
        )
