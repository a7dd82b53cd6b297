"""Many predictions for one request: the steps of a single one, each done for all rows in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from configs.errors import FTIError
from feature_store.errors import StoreUnavailable
from infrastructure.work import checkpoint
from monitoring.log.record import Flags, new_prediction_ids
from monitoring.log.writer import SharedLog
from serving.deployment.live import DeploymentFollower, LiveDeployment
from serving.prediction.in_flight import InFlightPrediction, PredictionRequest
from serving.prediction.model_features import FeatureVersions
from serving.prediction.online_rows import OnlineRows
from serving.prediction.scoring import score

RECORDED_TOGETHER = 512
"""Rows that are on their way together: they need some megabytes, however many are asked."""
SCORED_TOGETHER = 256
"""Rows of one call of the engine: it takes a millisecond or two, and the others wait no longer."""

Answered = dict[str, Any]


class AnswerSlot:
    """Where the answer to a row is put: a future as far as it is needed, without an event loop."""

    def __init__(self) -> None:
        self.answer: Answered | None = None

    def done(self) -> bool:
        """Whether there is an answer."""
        return self.answer is not None

    def set_result(self, answer: object) -> None:
        """Take a prediction."""
        self.answer = {name: v for name, v in vars(answer).items() if name != "latency_ms"}

    def set_exception(self, error: Exception) -> None:
        """Take the reason why there is none; a defect is one of the whole request."""
        if not isinstance(error, FTIError):
            raise error
        self.answer = {"error": str(error)}


@dataclass(eq=False)
class BatchPredictor:
    """Answers many requests in the calling thread; every answer has a receipt before it leaves.

    Parameters
    ----------
    features
        Gives vectors in the version that a model takes; not the event loop's own.
    rows
        Reads stored features.
    follower
        Knows the deployment that is live.
    log
        Takes the receipts.
    texts
        What to say for class 0 and class 1.
    on_answered
        Told the answers of each part of a request, to count them.
    """

    features: FeatureVersions
    rows: OnlineRows
    follower: DeploymentFollower
    log: SharedLog
    texts: tuple[str, str]
    on_answered: Callable[[Sequence[Answered]], None] = lambda answers: None

    def predict(self, requests: Sequence[PredictionRequest]) -> Iterator[list[Answered]]:
        """Answer requests in their order, part by part; each part has its receipts when it comes.

        What cannot be answered has an ``error`` instead.

        Raises
        ------
        NothingDeployed
            If no model is live.
        LogUnavailable
            If the predictions of a part cannot be recorded: none of the request may be told.
        """
        live, now_us = self.follower.require(), time.time_ns() // 1000
        store_answers = True
        for start in range(0, len(requests), RECORDED_TOGETHER):
            checkpoint()
            some = requests[start : start + RECORDED_TOGETHER]
            outcomes = [AnswerSlot() for _ in some]
            batch = self._begin(some, outcomes, live, now_us)
            named = [pending for pending in batch if pending.request.user_id is not None]
            store_answers = store_answers and self._read(named, now_us)
            if not store_answers:
                for pending in named:
                    pending.go_without_store(now_us)
            self._answer(batch, now_us)
            answers = [outcome.answer or {} for outcome in outcomes]
            self.on_answered(answers)
            yield answers

    def close(self) -> None:
        """Close the connections to Redis and the log."""
        self.rows.close()
        self.log.close()

    def _answer(self, batch: Sequence[InFlightPrediction], now_us: int) -> None:
        """Score, record and answer those that are not refused."""
        flags = 0 if self.follower.is_confirmed else int(Flags.DEPLOYMENT_UNCONFIRMED)
        scored = [pending for part in _parts(batch) for pending in score(part)]
        self.log.append([pending.receipt(now_us, flags) for pending in scored])
        for pending in scored:
            pending.succeed(self.texts, pending.started)

    def _begin(
        self,
        requests: Sequence[PredictionRequest],
        outcomes: Sequence[AnswerSlot],
        live: LiveDeployment,
        now_us: int,
    ) -> list[InFlightPrediction]:
        batch = []
        ids = new_prediction_ids(now_us, len(requests))
        for request, outcome, prediction_id in zip(requests, outcomes, ids, strict=True):
            pending = InFlightPrediction(request, cast(Any, outcome), 0.0)
            pending.identify(prediction_id)
            pending.choose_arm(live, self.features)
            batch.append(pending)
        return batch

    def _read(self, named: Sequence[InFlightPrediction], now_us: int) -> bool:
        """Read the stored features of the users named; tell whether Redis answered."""
        try:
            replies = self.rows.get_many([p.features.key(p.request.user_id or 0) for p in named])
        except StoreUnavailable:
            return False
        for pending, reply in zip(named, replies, strict=True):
            pending.take_row(reply, now_us)
        return True


def _parts(batch: Sequence[InFlightPrediction]) -> Iterator[list[InFlightPrediction]]:
    waiting = [pending for pending in batch if not pending.future.done()]
    for start in range(0, len(waiting), SCORED_TOGETHER):
        yield waiting[start : start + SCORED_TOGETHER]
