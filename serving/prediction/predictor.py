"""The path of a batch of predictions: arms, features, scores, receipts, answers.

Requests that arrive in one turn of the event loop are answered together: their stored features
come in one round trip, each model is called once, and their receipts are written at once. A request
that cannot be answered fails alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial

from configs.errors import FTIError
from feature_store.errors import StoreUnavailable
from monitoring.log.record import Flags, new_prediction_ids
from monitoring.log.writer import PredictionLog
from serving.deployment.live import DeploymentFollower
from serving.prediction.in_flight import Answer, InFlightPrediction, PredictionRequest, fail_all
from serving.prediction.model_features import FeatureVersions
from serving.prediction.scoring import score
from serving.redis.reader import OnlineReader

__all__ = ["Answer", "PredictionRequest", "Predictor"]

MOST_ROWS = 32
"""The model takes more rows at once no quicker, and the first would wait for the last."""


class Predictor:
    """Answers requests; every answer has a receipt in the log before it leaves.

    Parameters
    ----------
    features
        Gives vectors in the version that a model takes.
    reader
        Reads the online store.
    follower
        Knows the deployment that is live.
    log
        Takes the receipts.
    texts
        What to say for class 0 and class 1.
    batch_rows
        Most requests that are answered together; 1 answers each alone.
    """

    def __init__(
        self,
        features: FeatureVersions,
        reader: OnlineReader,
        follower: DeploymentFollower,
        log: PredictionLog,
        texts: tuple[str, str],
        batch_rows: int = MOST_ROWS,
    ) -> None:
        self.features = features
        self.reader = reader
        self.follower = follower
        self.log = log
        self.texts = texts
        self.batch_rows = batch_rows
        self.batches = 0
        self._waiting: list[InFlightPrediction] = []

    def predict(self, request: PredictionRequest) -> asyncio.Future[Answer]:
        """Answer one request, together with the others of this turn of the event loop.

        The future fails with

        NothingDeployed
            If no model is live.
        UnknownEntity
            If the online store has no features for the user.
        AttributesUnusable
            If the model's features cannot be computed any more.
        LogUnavailable
            If the prediction cannot be recorded.
        """
        loop = asyncio.get_running_loop()
        pending = InFlightPrediction(request, loop.create_future(), time.perf_counter())
        self._waiting.append(pending)
        if self.reader.busy_wait.is_alone:
            self._begin_all()
        elif len(self._waiting) == 1:
            # Two turns later those are read, too, who ask again as soon as they are answered.
            loop.call_soon(loop.call_soon, loop.call_soon, self._begin_all)
        return pending.future

    def _begin_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), self.batch_rows):
            batch = waiting[start : start + self.batch_rows]
            try:
                self._begin(batch)
            except Exception as error:  # noqa: BLE001 - each has a caller that waits
                fail_all(batch, error)

    def _begin(self, batch: Sequence[InFlightPrediction]) -> None:
        """Choose the arms; answer who named no user, and read the features of the others."""
        try:
            live = self.follower.require()
        except FTIError as error:
            fail_all(batch, error)
            return
        now_us = time.time_ns() // 1000
        named = [pending for pending in batch if pending.request.user_id is not None]
        if named:
            for pending in named:
                pending.choose_arm(live, self.features)
            keys = [each.features.key(each.request.user_id or 0) for each in named]
            self.reader.ask_many(keys, partial(self._take_rows, named, now_us))
        ids = new_prediction_ids(now_us, len(batch))  # made while Redis looks
        for pending, prediction_id in zip(batch, ids, strict=True):
            pending.identify(prediction_id)
        if len(named) < len(batch):
            others = [each for each in batch if each.request.user_id is None]
            for pending in others:
                pending.choose_arm(live, self.features)
            self._finish(others, now_us)

    def _take_rows(
        self,
        named: Sequence[InFlightPrediction],
        now_us: int,
        reply: list[bytes | None] | StoreUnavailable,
    ) -> None:
        try:
            if isinstance(reply, StoreUnavailable):
                for pending in named:
                    pending.go_without_store(now_us)
            else:
                for pending, packed in zip(named, reply, strict=True):
                    pending.take_row(packed, now_us)
            self._finish(named, now_us)
        except Exception as error:  # noqa: BLE001 - each has a caller that waits
            fail_all(named, error)

    def _finish(self, batch: Sequence[InFlightPrediction], now_us: int) -> None:
        """Score, record and answer those that still wait."""
        scored = score([pending for pending in batch if not pending.future.done()])
        if not scored:
            return
        flags = 0 if self.follower.is_confirmed else int(Flags.DEPLOYMENT_UNCONFIRMED)
        try:
            self.log.append([pending.receipt(now_us, flags) for pending in scored])
        except FTIError as error:
            fail_all(scored, error)
            return
        self.batches += 1
        ended = time.perf_counter()
        for pending in scored:
            pending.succeed(self.texts, ended)
