"""``GET /predictions/{id}`` and ``POST /predictions/{id}/replay``."""

# Annotations are values here: FastAPI reads them.
import math
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import FastAPI, Path, Response
from pydantic import BaseModel

from feature_store.definitions.schema import FeatureSchema
from monitoring.log.receipts import Receipt, Receipts
from serving.answers import json_response
from serving.deployment.live import DeploymentWatcher
from serving.errors import UnknownPrediction
from serving.routes.past_models import PastModels
from serving.routes.replay import replay
from serving.routes.route_documents import EXAMPLE_ID, answers

PredictionId = Annotated[
    UUID, Path(description="The `prediction_id` of an answer.", examples=[EXAMPLE_ID])
]


FindReceipt = Callable[[UUID], Awaitable[Receipt]]


class ScoredAnswer(BaseModel):
    """One arm whose model scored the vector."""

    arm: str
    version: int
    model_version: str
    threshold: float | None
    probability: float | None


class ReceiptAnswer(BaseModel):
    """The receipt of a prediction."""

    prediction_id: str
    predicted_at: datetime
    user_id: int | None
    unit: str
    arm: str
    model_version: str
    probability: float
    decision: Literal[0, 1]
    scored: list[ScoredAnswer]
    experiment: str | None
    propensity: float
    generation: int
    engine: str
    flags: list[str]
    feature_event_time: datetime | None
    schema_fingerprint: str
    stored_in: Literal["postgresql", "segment file"]
    vector: list[float | None]
    features: dict[str, int | float | str | None] | None


class ReplayedArmAnswer(BaseModel):
    """What one scored arm answered then and answers now."""

    arm: str
    model_version: str
    digest: str | None
    logged: float | None
    replayed: float | None


class ReplayAnswer(BaseModel):
    """A logged prediction and its repetition."""

    prediction_id: str
    equal: bool
    differs: list[str]
    logged_engine: str
    engine: str
    arms: list[ReplayedArmAnswer]


SCORED = {
    "arm": "champion",
    "version": 3,
    "model_version": "income-xgb-v3",
    "threshold": 0.41,
    "probability": 0.82,
}
RECEIPT = {
    "prediction_id": EXAMPLE_ID,
    "predicted_at": "2026-01-31T12:00:00.123456Z",
    "user_id": 12345,
    "unit": "12345",
    "arm": "champion",
    "model_version": "income-xgb-v3",
    "probability": 0.82,
    "decision": 1,
    "scored": [SCORED],
    "experiment": None,
    "propensity": 1.0,
    "generation": 7,
    "engine": "onnx 1.22.0",
    "flags": ["request_attributes"],
    "feature_event_time": "2026-01-30T09:00:00Z",
    "schema_fingerprint": "0123456789abcdef",
    "stored_in": "postgresql",
    "vector": [35.0, 4.0, None],
    "features": {"age": 35, "workclass": "Private", "fnlwgt": None},
}
REPLAYED = {
    "prediction_id": EXAMPLE_ID,
    "equal": True,
    "differs": [],
    "logged_engine": "onnx 1.22.0",
    "engine": "onnx 1.22.0",
    "arms": [
        {
            "arm": "champion",
            "model_version": "income-xgb-v3",
            "digest": "9f86d081884c7d65…",
            "logged": 0.82,
            "replayed": 0.82,
        }
    ],
}


def finder(receipts: Receipts) -> FindReceipt:
    """Give what finds receipts, or raises `UnknownPrediction`."""

    async def find(prediction_id: UUID) -> Receipt:
        receipt = await receipts.find(prediction_id)
        if receipt is None:
            raise UnknownPrediction(f"There is no prediction {prediction_id}.")
        return receipt

    return find


def _documented(example: object) -> dict[int | str, dict[str, Any]]:
    return answers(
        example,
        _404=f"There is no prediction {EXAMPLE_ID}.",
        _422="path.prediction_id is 'abc': Input should be a valid UUID",
        _503="PostgreSQL does not answer: …",
    )


def add_receipts(
    app: FastAPI,
    find: FindReceipt,
    models: PastModels,
    watcher: DeploymentWatcher,
    present: FeatureSchema,
) -> None:
    """Add the paths.

    Parameters
    ----------
    find
        Gives the receipt of a prediction.
    present
        The features as they are defined now, to name those of a vector.
    """

    @app.get(
        "/predictions/{prediction_id}",
        response_model=ReceiptAnswer,
        responses=_documented(RECEIPT),
    )
    async def show_receipt(prediction_id: PredictionId) -> Response:
        """Show a prediction's receipt, from the moment its answer has left.

        `features` names the values of `vector`, with words for categories, as long as this
        process knows the version of the features that the model took.
        """
        receipt = await find(prediction_id)
        return json_response(_shown(receipt, _schema(receipt, watcher, present)))

    @app.post(
        "/predictions/{prediction_id}/replay",
        response_model=ReplayAnswer,
        responses=_documented(REPLAYED),
    )
    async def replay_prediction(prediction_id: PredictionId) -> Response:
        """Score the logged vector again with the logged version, also one that serves no longer.

        On the logged engine the answer is equal to the bit; otherwise `differs` says what is not
        as it was: the engine, the artifact, or a version that is gone.
        """
        again = await replay(await find(prediction_id), models, watcher)
        return json_response(asdict(again))


def _schema(
    receipt: Receipt, watcher: DeploymentWatcher, present: FeatureSchema
) -> FeatureSchema | None:
    live = [arm.model.schema for arm in watcher.live.arms] if watcher.live else []
    known = {schema.fingerprint: schema for schema in (present, *live)}
    return known.get(receipt.schema_fingerprint)


def _shown(receipt: Receipt, schema: FeatureSchema | None) -> dict[str, Any]:
    vector = receipt.vector
    values = [value if math.isfinite(value) else None for value in vector.tolist()]
    features = schema.decode(vector) if schema is not None else None
    scored = [vars(each) for each in receipt.scored]
    return vars(receipt) | {"scored": scored, "vector": values, "features": features}
