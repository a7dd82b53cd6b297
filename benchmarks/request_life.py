"""The life of a request, step by step: microseconds of each, alone and as one of 16.

The steps are those of the API, called in this process over a real Redis and a real log. What the
HTTP server and the framework add is the difference to `benchmarks.serving`'s time of a request.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import uvloop
from pydantic_core import to_json

from benchmarks.harness.report import Report, each, interleaved, is_quick
from benchmarks.subjects.http_load.process import SERVER_CORE
from benchmarks.subjects.http_load.stage import Stage, stage
from configs.settings import load_settings
from feature_store.feature_definitions import MODEL_VIEW
from monitoring.log.record import new_prediction_ids
from monitoring.log.writer import PredictionLog
from serving.bodies.request_schema import request_schema, to_request
from serving.connect import prediction_service
from serving.prediction.in_flight import InFlightPrediction, PredictionRequest
from serving.prediction.missing_attributes import NONE
from serving.service import PredictionService

SIZES = {"alone": 1, "of_16": 16}
ROUNDS, REPEATS = (2, 50) if is_quick() else (7, 500)


class Batch:
    """A batch of requests, each step of which can be taken again and again."""

    def __init__(
        self, service: PredictionService, log: PredictionLog, bodies: Sequence[str]
    ) -> None:
        self.predictor, self.log = service.predictor, log
        self.live = service.follower.require()
        self.features = self.predictor.features.of(self.live.arms[0].model.schema)
        self.bodies = [body.encode() for body in bodies]
        self.validate = request_schema(MODEL_VIEW).__pydantic_validator__.validate_json
        self.batch = [self._pending(self._read(body)) for body in self.bodies]

    async def prepare(self) -> None:
        """Read the features, so that every later step has what it needs."""
        for pending in self.batch:
            if pending.request.user_id is not None:
                pending.stored = await self.features.read(pending.request.user_id, 0)
        keys = [self.features.key(each.request.user_id or 1) for each in self.batch]
        self.replies = await self.predictor.reader.get_many(keys)
        self.values = self.vectors()
        self.assign()
        self.receipts = self.pack()

    def parse(self) -> None:
        """Parse and validate the bodies."""
        for body in self.bodies:
            self._read(body)

    def assign(self) -> None:
        """Give ids, units and arms."""
        for pending, own in zip(self.batch, new_prediction_ids(1, len(self.batch)), strict=True):
            pending.identify(own)
            pending.assign()
            pending.vector = self.values[0].tobytes()
            pending.unknowns = NONE

    def check(self) -> None:
        """Check the rows: definition, owner, age."""
        for pending, reply in zip(self.batch, self.replies, strict=True):
            self.features.stored.of_reply(pending.request.user_id or 1, reply, 0)

    def vectors(self) -> Any:
        """Make the vectors."""
        return self.features.vectors([pending.inputs for pending in self.batch])

    def score(self) -> None:
        """Ask the model."""
        self.live.arms[0].model.scorer.predict(self.values)

    def name_missing(self) -> None:
        """Name what is missing."""
        self.features.missing.of(self.values)

    def pack(self) -> list[bytes]:
        """Make the receipts."""
        return [pending.receipt(1, 0) for pending in self.batch]

    def append(self) -> None:
        """Write the receipts."""
        self.log.append(self.receipts)

    def answer(self) -> None:
        """Make the answers and write them as JSON."""
        loop = asyncio.get_running_loop()
        for pending in self.batch:
            pending.future = loop.create_future()
            pending.succeed(self.predictor.texts, time.perf_counter())
            to_json(vars(pending.future.result()))

    def _read(self, body: bytes) -> PredictionRequest:
        return to_request(self.validate(body), MODEL_VIEW.key)

    def _pending(self, request: PredictionRequest) -> InFlightPrediction:
        pending = InFlightPrediction(request, asyncio.get_running_loop().create_future(), 0.0)
        pending.arm, pending.features = self.live.arms[0], self.features
        return pending


async def round_trips(batch: Batch, repeats: int) -> float:
    """Median time of one round trip to Redis, in microseconds."""
    keys, taken = [batch.features.key(user + 1) for user in range(len(batch.batch))], []
    for _ in range(repeats):
        began = time.perf_counter()
        await batch.predictor.reader.get_many(keys)
        taken.append((time.perf_counter() - began) * 1e6)
    return sorted(taken)[repeats // 2]


async def measured(place: Stage, report: Report) -> None:
    """Measure every step."""
    os.environ.update(place.environment("in_process"))
    service = prediction_service(load_settings())
    await service.start()
    # A log that nobody ships: the same receipts are written again and again.
    log = PredictionLog(place.folder / "receipts", 1 << 24)
    for name, size in SIZES.items():
        by_user = Batch(service, log, place.users[:size])
        by_attributes = Batch(service, log, place.attributes[:size])
        await by_user.prepare()
        await by_attributes.prepare()
        steps: Mapping[str, Callable[[], object]] = {
            "parse_and_validate_user": by_user.parse,
            "parse_and_validate_attributes": by_attributes.parse,
            "id_unit_arm": by_user.assign,
            "check_rows": by_user.check,
            "vector_of_stored": by_user.vectors,
            "vector_of_attributes": by_attributes.vectors,
            "model": by_user.score,
            "name_missing": by_user.name_missing,
            "receipt": by_user.pack,
            "append_receipts": by_user.append,
            "answer_as_json": by_user.answer,
        }
        runs = interleaved({step: each(work, REPEATS) for step, work in steps.items()}, ROUNDS)
        runs["redis_round_trip"] = [await round_trips(by_user, REPEATS) for _ in range(ROUNDS)]
        report.add(name, "us", {s: [v / size for v in values] for s, values in runs.items()})
    log.close()
    await service.stop()


def main() -> int:
    """Measure on one core, the stores on the other."""
    report = Report("request_life", packages=["hiredis", "onnxruntime", "pydantic", "uvloop"])
    with stage() as place:
        os.sched_setaffinity(0, {SERVER_CORE})
        uvloop.run(partial(measured, place, report)())
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
