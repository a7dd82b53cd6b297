"""What a worker does in threads beside single predictions: each kind of work in its own pool."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Self

from configs.deployment_config import ApiConfig
from infrastructure.work import WorkPool

REPORTED_ROWS = 40_000
"""Labels of all reports that are taken in at once: four reports of the largest size."""
EXPLANATION_LIMIT_S = 10.0
"""The first one of a model reads all its trees."""
LOOKUP_LIMIT_S = 5.0
"""Segment files of some gigabytes are read in it."""
MODELS_AT_ONCE = 2
MODEL_LIMIT_S = 30.0
"""A model may have to be fetched; requests wait less long for it."""


@dataclass(frozen=True)
class WorkPools:
    """The pools of a worker.

    Parameters
    ----------
    batches, reports, explanations
        What ``/predict/batch``, ``/feedback`` and ``/explain`` do.
    lookups
        Looks for receipts, and scores them again.
    models
        Fetches and loads models that serve no longer, and asks where models come from.
    """

    batches: WorkPool
    reports: WorkPool
    explanations: WorkPool
    lookups: WorkPool
    models: WorkPool

    @classmethod
    def of(cls, api: ApiConfig) -> Self:
        """Make the pools that the settings describe."""
        most, wait_s, limit_s = api.at_once, api.at_once.wait_s, api.request_limit_s

        def pool(name: str, threads: int, limit_s: float, room: int | None = None) -> WorkPool:
            return WorkPool(name, threads, room=room or threads, wait_s=wait_s, limit_s=limit_s)

        return cls(
            pool("batches are being answered", most.batches, limit_s, most.batch_rows),
            pool("reports are being taken in", most.reports, limit_s, REPORTED_ROWS),
            pool("explanations are being made", most.explanations, EXPLANATION_LIMIT_S),
            pool("receipts are being looked for", most.lookups, LOOKUP_LIMIT_S),
            pool("models are being loaded", MODELS_AT_ONCE, MODEL_LIMIT_S),
        )

    async def close(self) -> None:
        """End what is under way."""
        await asyncio.gather(*[pool.close() for pool in vars(self).values()])
