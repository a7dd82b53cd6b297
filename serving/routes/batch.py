"""``POST /predict/batch``: up to 10,000 predictions for one request."""

# Annotations are values here: FastAPI reads the type of a body that is made at run time.
import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from fastapi import FastAPI, Response
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic_core import to_json

from feature_store.definitions.view import FeatureView
from infrastructure.work import WorkPool
from serving.bodies.key_fields import example_of
from serving.bodies.request_schema import request_schema, to_request
from serving.prediction.batch_predictor import BatchPredictor
from serving.routes.bulk_route import add_bulk_path
from serving.routes.route_documents import EXAMPLE_ID, answers, body_example

MOST_ROWS = 10_000


class BatchRow(BaseModel):
    """The answer to one row: a prediction, or why there is none."""

    error: str | None = None
    prediction: str | None = None
    probability: float | None = None
    model_version: str | None = None
    prediction_id: str | None = None
    arm: str | None = None
    missing: list[str] | None = None
    unseen: list[str] | None = None
    degraded: bool | None = None
    degraded_reasons: list[str] | None = None


class BatchAnswer(BaseModel):
    """The answers, in the order of the rows."""

    predictions: list[BatchRow]
    answered: int
    failed: int
    latency_ms: float


ANSWERED = {
    "prediction": ">50K",
    "probability": 0.82,
    "model_version": "income-xgb-v3",
    "prediction_id": EXAMPLE_ID,
    "arm": "champion",
    "missing": [],
    "unseen": [],
    "degraded": False,
    "degraded_reasons": [],
}
UNKNOWN = {"error": "The online store has no features for user_id 999999. Send its attributes, …"}


def add_batch(app: FastAPI, view: FeatureView, predictor: BatchPredictor, pool: WorkPool) -> None:
    """Add the path."""
    row_schema = request_schema(view)
    rows = Annotated[list[row_schema], Field(min_length=1, max_length=MOST_ROWS)]  # type: ignore[valid-type]
    body_schema = create_model(
        "BatchRequest", __config__=ConfigDict(extra="forbid"), rows=(rows, ...)
    )

    def predict_batch(body: body_schema) -> Response:
        """Predict up to 10,000 rows; each is what `/predict` takes, and is answered to the bit so.

        Answers come in the order of the rows; a row of a user that is not known has an `error`.
        Every answer has its receipt. A row that cannot be read refuses the whole request.
        """
        started = time.perf_counter()
        parts = predictor.predict(body.rows)  # type: ignore[attr-defined]
        return Response(b"".join(_json(parts, started)), media_type="application/json")

    asked = [
        example_of(view.key, 12345),
        {view.raw_features[0].name: 35},
        example_of(view.key, 999_999),
    ]
    add_bulk_path(
        app,
        "/predict/batch",
        predict_batch,
        pool,
        convert=lambda row: to_request(row, view.key),
        response_model=BatchAnswer,
        openapi_extra=body_example({"rows": asked}),
        responses=answers(
            {"predictions": [ANSWERED, UNKNOWN], "answered": 1, "failed": 1, "latency_ms": 3.2},
            _413="",
            _422="rows.1.age is 300: Input should be less than or equal to 120",
            _503="As many batches are being answered as may be at once, and there was no room …",
        ),
    )


def _json(parts: Iterable[list[dict[str, Any]]], started: float) -> Iterator[bytes]:
    """Write the answer as its parts come: none is kept longer, and none keeps others waiting."""
    yield b'{"predictions":['
    n = failed = 0
    for part in parts:
        yield b"," if n else b""
        yield to_json(part)[1:-1]
        n += len(part)
        failed += sum("error" in each for each in part)
    latency_ms = round((time.perf_counter() - started) * 1000, 3)
    rest = {"answered": n - failed, "failed": failed, "latency_ms": latency_ms}
    yield b"]," + to_json(rest)[1:]
