"""What is asked to be explained, and the explanation, made in a thread within a time limit."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.deployment.record import Arm
from monitoring.log.receipts import Receipt
from monitoring.log.record import as_text, new_prediction_id
from serving.deployment.live_arms import LiveArm, LiveDeployment
from serving.errors import ModelUnusable, TookTooLong, TooManyAtOnce
from serving.model_loader import LoadedModel
from serving.prediction.pending import PredictionRequest
from serving.prediction.predictor import Predictor
from serving.routes.explainer import Explainer, Explanation
from serving.routes.past_models import PastModels

LIMIT_S = 10.0
"""Longest wait for an explanation; the first one of a model reads all its trees."""
AT_ONCE = 2


@dataclass(frozen=True, eq=False)
class Subject:
    """What is explained: the answer of which arm to which vector ``(p,)``."""

    arm: Arm
    model: LoadedModel
    vector: NDArray[np.float32]


class Explanations:
    """Explains requests and predictions, some at once.

    Parameters
    ----------
    predictor
        The one of ``/predict``, for what it knows.
    models
        Finds models that serve no longer.
    explainer
        Does the work.
    """

    def __init__(self, predictor: Predictor, models: PastModels, explainer: Explainer) -> None:
        self.predictor = predictor
        self.models = models
        self.explainer = explainer
        self._running = 0

    async def of_request(self, request: PredictionRequest) -> Subject:
        """Find what would be answered to a request, and by whom.

        Raises
        ------
        NothingDeployed, UnknownEntity, AttributesUnusable
            As for a prediction.
        """
        now_us = time.time_ns() // 1000
        live = _arm(self.predictor.watcher.require(), request, now_us)
        features = self.predictor.features.of(live.model.schema)
        stored = None
        if request.user_id is not None:
            stored = await features.read(request.user_id, now_us)
        [vector] = features.vectors([(request.attributes, stored)])
        return Subject(live.arm, live.model, vector)

    async def of_receipt(self, receipt: Receipt) -> Subject:
        """Find what was answered in a prediction, and by whom.

        Raises
        ------
        ModelUnusable
            If the model cannot be had as it was.
        StoreUnavailable
            If the record of deployments cannot be read.
        """
        [scored] = [each for each in receipt.scored if each.arm == receipt.arm]
        arm = await self.models.arm(receipt.generation, scored)
        model = await self.models.load(arm)
        if model.schema.fingerprint != receipt.schema_fingerprint:
            raise ModelUnusable(
                f"{arm.label} takes features {model.schema.fingerprint}; the logged vector has "
                f"{receipt.schema_fingerprint}."
            )
        return Subject(arm, model, receipt.vector)

    async def explain(self, subject: Subject) -> Explanation:
        """Explain it.

        Raises
        ------
        TooManyAtOnce
            If others are being made already.
        TookTooLong
            If it is not done in time.
        """
        if self._running >= AT_ONCE:
            raise TooManyAtOnce(
                f"{AT_ONCE} explanations are being made, and no more at once. Try again in a "
                "moment."
            )
        self._running += 1
        work = asyncio.to_thread(self.explainer.explain, subject.arm, subject.model, subject.vector)
        task = asyncio.ensure_future(work)
        task.add_done_callback(self._ended)
        done, _ = await asyncio.wait({task}, timeout=LIMIT_S)
        if not done:
            raise TookTooLong(f"The explanation is not made after {LIMIT_S:g} s. Ask later.")
        return task.result()

    def _ended(self, task: asyncio.Task[Explanation]) -> None:
        self._running -= 1
        if not task.cancelled():
            task.exception()  # nobody may be waiting any more: that is no defect


def _arm(live: LiveDeployment, request: PredictionRequest, now_us: int) -> LiveArm:
    unit = request.unit_id or as_text(new_prediction_id(now_us))
    if request.user_id is not None:
        unit = str(request.user_id)
    return live.arm_of(unit)
