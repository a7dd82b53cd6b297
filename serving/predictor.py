"""The story of one prediction: features, arm, score, receipt, answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from monitoring.prediction_ids import new_prediction_id
from monitoring.prediction_log import PredictionLog
from monitoring.prediction_record import DEGRADED, Flags, PredictionRecord
from serving.ab_testing import bucket_of, choose
from serving.errors import ModelUnusable
from serving.features import StoredFeatures
from serving.live import DeploymentWatcher, LiveArm, LiveDeployment
from serving.model_features import FeatureVersions, ModelFeatures


@dataclass(frozen=True)
class PredictionRequest:
    """What is asked: about whom, with which raw attributes.

    Parameters
    ----------
    user_id
        Whose stored features to use; None for none.
    unit_id
        Who is assigned to an arm when no user is named.
    attributes
        Raw attributes by name; they win over stored ones. None says that a value is missing.
    """

    user_id: int | None = None
    unit_id: str | None = None
    attributes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What is answered.

    Parameters
    ----------
    missing
        Raw attributes that are missing or that the model has never seen.
    degraded_reasons
        Why the answer is worse than it should be; empty when it is not.
    """

    prediction: str
    probability: float
    model_version: str
    latency_ms: float
    prediction_id: str
    arm: str
    missing: list[str]
    degraded: bool
    degraded_reasons: list[str]


class Predictor:
    """Answers requests; every answer has a receipt in the log before it leaves.

    Parameters
    ----------
    features
        Gives vectors in the version that a model takes.
    watcher
        Knows the deployment that is live.
    log
        Takes the receipts.
    texts
        What to say for class 0 and class 1.
    """

    def __init__(
        self,
        features: FeatureVersions,
        watcher: DeploymentWatcher,
        log: PredictionLog,
        texts: tuple[str, str],
    ) -> None:
        self.features = features
        self.watcher = watcher
        self.log = log
        self.texts = texts

    async def predict(self, request: PredictionRequest) -> Answer:
        """Answer one request.

        Raises
        ------
        NothingDeployed
            If no model is live.
        UnknownEntity
            If the online store has no features for the user.
        AttributesUnusable
            If the model's features cannot be computed any more.
        LogUnavailable
            If the prediction cannot be recorded.
        """
        started = time.perf_counter()
        now_us = time.time_ns() // 1000
        prediction_id = new_prediction_id(now_us)
        unit = _unit(request, prediction_id)
        arm = _arm(self.watcher.require(), unit)
        features = self.features.of(arm.model.schema)
        stored = None
        if request.user_id is not None:
            stored = await features.read(request.user_id, now_us)
        vector = features.vector(request.attributes, stored)
        record = PredictionRecord(
            prediction_id=prediction_id,
            predicted_at_us=now_us,
            user_id=request.user_id,
            unit=unit,
            event_time_us=stored.event_time_us if stored else None,
            vector=vector,
            outputs=(_probability(arm, vector),),
            flags=self._flags(request, stored),
            context=arm.context,
        )
        self.log.append([record.pack()])
        return self._answer(record, features, started)

    def _flags(self, request: PredictionRequest, stored: StoredFeatures | None) -> Flags:
        flags = stored.flags if stored else Flags.NONE
        if request.attributes:
            flags |= Flags.REQUEST_ATTRIBUTES
        if not self.watcher.is_confirmed:
            flags |= Flags.DEPLOYMENT_UNCONFIRMED
        return flags

    def _answer(self, record: PredictionRecord, features: ModelFeatures, started: float) -> Answer:
        context = record.context
        degraded = record.flags & DEGRADED
        return Answer(
            prediction=self.texts[record.decision],
            probability=record.probability,
            model_version=context.scored[context.answering].model_version,
            latency_ms=round((time.perf_counter() - started) * 1000, 3),
            prediction_id=record.uuid,
            arm=context.arm,
            missing=features.missing(record.vector),
            degraded=bool(degraded),
            degraded_reasons=degraded.names if degraded else [],
        )


def _unit(request: PredictionRequest, prediction_id: bytes) -> str:
    """Name who is assigned to an arm: the user, else the caller's unit, else this prediction."""
    if request.user_id is not None:
        return str(request.user_id)
    return request.unit_id or str(UUID(bytes=prediction_id))


def _arm(live: LiveDeployment, unit: str) -> LiveArm:
    if len(live.arms) == 1:
        return live.arms[0]
    bucket = bucket_of(unit, live.deployment.salt)
    return live.arms[choose(live.deployment.arms, bucket)]


def _probability(arm: LiveArm, vector: NDArray[np.float32]) -> float:
    probability = arm.model.probability(vector)
    if not 0 <= probability <= 1:
        raise ModelUnusable(
            f"{arm.arm.label} answered {probability} where a probability was expected."
        )
    return probability
