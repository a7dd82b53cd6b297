"""Many predictions for one request: the same steps as for one, each done for all rows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

import numpy as np

from feature_store.errors import SchemaMismatch, StoreUnavailable
from monitoring.prediction_ids import new_prediction_id
from monitoring.prediction_log import SharedLog
from monitoring.prediction_record import DEGRADED, Flags, PredictionRecord
from serving.ab_testing import bucket_of, choose
from serving.errors import ModelUnusable
from serving.features import StoredFeatures
from serving.live import LiveArm, LiveDeployment
from serving.model_features import ModelFeatures
from serving.online_rows import Found, OnlineRows
from serving.predictor import PredictionRequest, Predictor

SCORED_TOGETHER = 256
"""Rows of one call of the engine: it takes a millisecond or two, and the others wait no longer."""

Answered = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Asked:
    """One row on its way: what is asked, under which id, of which arm."""

    place: int
    request: PredictionRequest
    prediction_id: bytes
    unit: str
    arm: LiveArm


Known = tuple[Asked, StoredFeatures | None]
"""A row with the stored features of its user, if it names one."""


class BatchPredictor:
    """Answers many requests in the calling thread; every answer has a receipt before it leaves.

    Parameters
    ----------
    predictor
        The one of single requests, for what it knows.
    rows
        Reads stored features.
    log
        Takes the receipts.
    ttl
        Age beyond which stored features are taken as missing; None for never.
    """

    def __init__(
        self, predictor: Predictor, rows: OnlineRows, log: SharedLog, ttl: timedelta | None
    ) -> None:
        self.predictor = predictor
        self.rows = rows
        self.log = log
        self.ttl_us = None if ttl is None else int(ttl.total_seconds() * 1_000_000)

    def predict(self, requests: Sequence[PredictionRequest]) -> list[Answered]:
        """Answer requests in their order; what cannot be answered has an ``error`` instead.

        Raises
        ------
        NothingDeployed
            If no model is live.
        AttributesUnusable, ModelUnusable
            If a model cannot answer such requests at all.
        LogUnavailable
            If the predictions cannot be recorded: none is answered.
        """
        now_us = time.time_ns() // 1000
        live = self.predictor.watcher.require()
        asked = [_asked(place, each, live, now_us) for place, each in enumerate(requests)]
        answers: list[Answered] = [{} for _ in asked]
        bodies = []
        for _, group in groupby(sorted(asked, key=_arm_name), key=_arm_name):
            for some in _parts(self._with_features(list(group), now_us, answers)):
                for each, record in self._scored(some, now_us):
                    bodies.append(record.pack())
                    answers[each.place] = self._answer(record, each.arm)
        self.log.append(bodies)
        return answers

    def _with_features(
        self, asked: Sequence[Asked], now_us: int, answers: list[Answered]
    ) -> list[Known]:
        """Rows of one arm with their stored features; those of unknown users are answered so."""
        schema = asked[0].arm.model.schema
        whole = self.predictor.features.of(schema.whole or schema)
        users = {each.request.user_id for each in asked if each.request.user_id is not None}
        found = self.rows.read(whole.schema, sorted(users))
        known: list[Known] = []
        for each in asked:
            user = each.request.user_id
            stored = None if user is None else self._features(found[user], whole, now_us)
            if user is not None and stored is None:
                answers[each.place] = {"error": _unknown(user)}
            else:
                known.append((each, stored))
        return known

    def _scored(self, known: list[Known], now_us: int) -> Iterator[tuple[Asked, PredictionRecord]]:
        """Score rows of one arm and make their receipts."""
        arm = known[0][0].arm
        features = self.predictor.features.of(arm.model.schema)
        vectors = np.stack([features.vector(e.request.attributes, s) for e, s in known])
        outputs = arm.model.scorer.predict(vectors).tolist()
        for (each, stored), vector, output in zip(known, vectors, outputs, strict=True):
            if not 0 <= output <= 1:
                raise ModelUnusable(
                    f"{arm.arm.label} answered {output} where a probability was expected."
                )
            record = PredictionRecord(
                prediction_id=each.prediction_id,
                predicted_at_us=now_us,
                user_id=each.request.user_id,
                unit=each.unit,
                event_time_us=stored.event_time_us if stored else None,
                vector=vector,
                outputs=(output,),
                flags=self._flags(each.request, stored),
                context=arm.context,
            )
            yield each, record

    def _features(self, row: Found, whole: ModelFeatures, now_us: int) -> StoredFeatures | None:
        nothing = whole.stored.nothing
        if row is None:
            return None
        if isinstance(row, StoreUnavailable):
            return StoredFeatures(nothing, None, Flags.FEATURES_UNAVAILABLE)
        if isinstance(row, SchemaMismatch):
            return StoredFeatures(nothing, None, Flags.FEATURES_OUTDATED)
        if self.ttl_us is not None and now_us - row.event_time_us > self.ttl_us:
            return StoredFeatures(nothing, row.event_time_us, Flags.FEATURES_STALE)
        return StoredFeatures(row.vector, row.event_time_us, Flags.NONE)

    def _flags(self, request: PredictionRequest, stored: StoredFeatures | None) -> Flags:
        flags = stored.flags if stored else Flags.NONE
        if request.attributes:
            flags |= Flags.REQUEST_ATTRIBUTES
        if not self.predictor.watcher.is_confirmed:
            flags |= Flags.DEPLOYMENT_UNCONFIRMED
        return flags

    def _answer(self, record: PredictionRecord, arm: LiveArm) -> Answered:
        degraded = record.flags & DEGRADED
        return {
            "prediction": self.predictor.texts[record.decision],
            "probability": record.probability,
            "model_version": arm.arm.label,
            "prediction_id": record.uuid,
            "arm": arm.arm.name,
            "missing": self.predictor.features.of(arm.model.schema).missing(record.vector),
            "degraded": bool(degraded),
            "degraded_reasons": degraded.names if degraded else [],
        }


def _asked(place: int, request: PredictionRequest, live: LiveDeployment, now_us: int) -> Asked:
    prediction_id = new_prediction_id(now_us)
    unit = request.unit_id or str(UUID(bytes=prediction_id))
    if request.user_id is not None:
        unit = str(request.user_id)
    arm = 0
    if len(live.arms) > 1:
        arm = choose(live.deployment.arms, bucket_of(unit, live.deployment.salt))
    return Asked(place, request, prediction_id, unit, live.arms[arm])


def _arm_name(asked: Asked) -> str:
    return asked.arm.arm.name


def _parts(known: list[Known]) -> Iterator[list[Known]]:
    for start in range(0, len(known), SCORED_TOGETHER):
        yield known[start : start + SCORED_TOGETHER]


def _unknown(user: int) -> str:
    return f"The online store has no features for user {user}. Send the user's attributes."
