"""The story of a batch of predictions: arms, features, scores, receipts, answers.

Requests that arrive in one turn of the event loop are answered together: their stored features
come in one round trip, each model is asked once, their receipts are written at once. What one of
them cannot have fails that one alone.
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
from serving.deployment.live import DeploymentWatcher, LiveDeployment
from serving.errors import UnknownEntity
from serving.prediction.model_features import FeatureVersions
from serving.prediction.pending import Answer, Pending, PredictionRequest, fail_all
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
    watcher
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
        watcher: DeploymentWatcher,
        log: PredictionLog,
        texts: tuple[str, str],
        batch_rows: int = MOST_ROWS,
    ) -> None:
        self.features = features
        self.reader = reader
        self.watcher = watcher
        self.log = log
        self.texts = texts
        self.batch_rows = batch_rows
        self.batches = 0
        self._waiting: list[Pending] = []

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
        pending = Pending(request, loop.create_future(), time.perf_counter())
        self._waiting.append(pending)
        if self.reader.awake.is_alone:
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
            except Exception as error:  # noqa: BLE001 - somebody waits for each of them
                fail_all(batch, error)

    def _begin(self, batch: Sequence[Pending]) -> None:
        """Choose the arms; answer who named no user, and read the features of the others."""
        try:
            live = self.watcher.require()
        except FTIError as error:
            fail_all(batch, error)
            return
        now_us = time.time_ns() // 1000
        named = [pending for pending in batch if pending.request.user_id is not None]
        if named:
            self._assign(named, live)
            keys = [each.features.key(each.request.user_id or 0) for each in named]
            self.reader.ask_many(keys, partial(self._have_read, named, now_us))
        _identify(batch, now_us)  # while Redis looks
        if len(named) < len(batch):
            others = [each for each in batch if each.request.user_id is None]
            self._assign(others, live)
            self._finish(others, now_us)

    def _assign(self, batch: Sequence[Pending], live: LiveDeployment) -> None:
        for pending in batch:
            pending.arm = live.arm_of(pending.assign())
            pending.features = self.features.of(pending.arm.model.schema)

    def _have_read(
        self,
        named: Sequence[Pending],
        now_us: int,
        reply: list[bytes | None] | StoreUnavailable,
    ) -> None:
        try:
            is_down = isinstance(reply, StoreUnavailable)
            replies = [None] * len(named) if isinstance(reply, StoreUnavailable) else reply
            for pending, packed in zip(named, replies, strict=True):
                _take(pending, packed, is_down, now_us)
            self._finish(named, now_us)
        except Exception as error:  # noqa: BLE001 - somebody waits for each of them
            fail_all(named, error)

    def _finish(self, batch: Sequence[Pending], now_us: int) -> None:
        """Score, record and answer those that still wait."""
        scored = score([pending for pending in batch if not pending.future.done()])
        if not scored:
            return
        flags = 0 if self.watcher.is_confirmed else int(Flags.DEPLOYMENT_UNCONFIRMED)
        try:
            self.log.append([pending.receipt(now_us, flags) for pending in scored])
        except FTIError as error:
            fail_all(scored, error)
            return
        self.batches += 1
        ended = time.perf_counter()
        for pending in scored:
            pending.succeed(self.texts, ended)


def _identify(batch: Sequence[Pending], now_us: int) -> None:
    for pending, prediction_id in zip(batch, new_prediction_ids(now_us, len(batch)), strict=True):
        pending.identify(prediction_id)


def _take(pending: Pending, reply: bytes | None, is_down: bool, now_us: int) -> None:
    """Take what the online store says of the user, or the best there is without it."""
    user, stored = pending.request.user_id or 0, pending.features.stored
    try:
        if is_down:
            pending.stored = stored.without_store(user, now_us)
        else:
            pending.stored = stored.of_reply(user, reply, now_us)
    except UnknownEntity as error:
        pending.fail(error)
