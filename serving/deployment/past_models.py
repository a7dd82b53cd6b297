"""Models by deployment, also those that serve no longer."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from infrastructure.work import WorkPool
from models.deployment.record import Arm
from monitoring.log.postgres_reader import PostgresReader
from monitoring.log.record import ScoredArm
from serving.deployment.live import DeploymentFollower
from serving.errors import ModelUnusable, TookTooLong
from serving.model_loader import LoadedModel, ModelLoader

KEPT = 4
"""So many models that serve no longer stay in memory."""
LOAD_LIMIT_S = 10.0
"""Far below the limit of a request: a registry that hangs is named, not the request's fault."""
ARMS = (
    "SELECT arms FROM deployments WHERE model_name = %(model_name)s AND generation = %(generation)s"
)


class PastModels:
    """Finds the model of an arm of any deployment, loading it where it is not in memory.

    Parameters
    ----------
    follower
        Knows the deployment that is live.
    loader
        Loads the others.
    records
        Reads the record of deployments.
    model_name
        The registered model.
    pool
        Where models are fetched and loaded.
    limit_s
        So long a request waits for a model to be loaded.
    """

    def __init__(
        self,
        follower: DeploymentFollower,
        loader: ModelLoader,
        records: PostgresReader,
        model_name: str,
        pool: WorkPool,
        limit_s: float = LOAD_LIMIT_S,
    ) -> None:
        self.follower = follower
        self.loader = loader
        self.records = records
        self.model_name = model_name
        self.pool = pool
        self.limit_s = limit_s
        self._kept: OrderedDict[str, LoadedModel] = OrderedDict()
        self._loading: dict[str, asyncio.Task[LoadedModel]] = {}

    async def find(self, generation: int, scored: ScoredArm) -> tuple[Arm, LoadedModel]:
        """Give the arm of a deployment that scored, and its model.

        Raises
        ------
        ModelUnusable
            If there is no record of it, or its artifact cannot be had as it was.
        StoreUnavailable
            If the record of deployments cannot be read.
        TookTooLong
            If the model is not there in time.
        """
        arm = await self._arm(generation, scored)
        return arm, await self.load(arm)

    async def load(self, arm: Arm) -> LoadedModel:
        """Give the model of an arm, from memory if it is there.

        Raises
        ------
        ModelUnusable
            If its artifact cannot be had as it was.
        TookTooLong
            If it is not there in time; whoever asks again waits for the same fetch.
        """
        live = self.follower.live
        for each in live.arms if live else ():
            if each.model.digest == arm.digest:
                return each.model
        if arm.digest in self._kept:
            self._kept.move_to_end(arm.digest)
            return self._kept[arm.digest]
        loading = self._loading.get(arm.digest)
        if loading is None:
            loading = self._loading[arm.digest] = asyncio.create_task(self._load(arm))
            loading.add_done_callback(lambda task: task.exception())  # all may have left
        try:
            async with asyncio.timeout(self.limit_s):
                return await asyncio.shield(loading)
        except TimeoutError as error:
            raise TookTooLong(
                f"{arm.label} could not be fetched within {self.limit_s:g} s. It is still being "
                "fetched: ask again, and see whether the model registry answers."
            ) from error

    async def _load(self, arm: Arm) -> LoadedModel:
        try:
            model = await self.pool.run(self.loader.load, arm)
        finally:
            del self._loading[arm.digest]
        self._kept[arm.digest] = model
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return model

    async def _arm(self, generation: int, scored: ScoredArm) -> Arm:
        live = self.follower.live
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
