"""``GET /predictions/{id}`` and ``POST /predictions/{id}/replay``: a receipt, and it once more."""

# Annotations are values here: FastAPI reads them.
import math
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import FastAPI, Path, Response
from pydantic import AfterValidator, BaseModel

from feature_store.definitions.view import FeatureView
from infrastructure.work import WorkPool
from monitoring.log.receipts import Receipt, Receipts, ScoredOutput
from serving.answers import json_response
from serving.deployment.past_models import PastModels
from serving.errors import ModelUnusable, UnknownPrediction
from serving.routes.route_documents import EXAMPLE_ID, ID_PATTERN, answers

ID_VERSION = 7


def _of_prediction(value: UUID) -> UUID:
    if value.version != ID_VERSION:
        raise ValueError("expected the prediction_id of an answer, a UUID of version 7")
    return value


PredictionId = Annotated[
    UUID,
    AfterValidator(_of_prediction),
    Path(
        description="The `prediction_id` of an answer, a UUID of version 7.",
        examples=[EXAMPLE_ID],
        json_schema_extra={"pattern": ID_PATTERN},
    ),
]


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
    caller: str | None
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
    "caller": "shop",
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


def add_receipts(
    app: FastAPI, view: FeatureView, receipts: Receipts, models: PastModels, pool: WorkPool
) -> None:
    """Add the paths.

    Parameters
    ----------
    view
        As it is defined now, to name the features of a vector.
    models
        Finds those that scored, also when they serve no longer.
    pool
        Where they score again.
    """

    @app.get(
        "/predictions/{prediction_id}",
        response_model=ReceiptAnswer,
        responses=documents(RECEIPT),
    )
    async def show_receipt(prediction_id: PredictionId) -> Response:
        """Show a prediction's receipt, from the moment its answer has left.

        `features` names the values of `vector`, with words for categories, as long as this
        process knows the version of the features that the model took.
        """
        receipt = await find_receipt(receipts, prediction_id)
        live = models.follower.live
        # The words of open vocabularies are in the artifacts alone.
        present = [] if view.schema.open_features else [view.schema.model_inputs]
        known = [*present, *(arm.model.schema for arm in (live.arms if live else ()))]
        schemas = {schema.fingerprint: schema for schema in known}
        schema = schemas.get(receipt.schema_fingerprint)
        values = receipt.vector.tolist()
        shown = {
            "scored": [vars(each) for each in receipt.scored],
            "vector": [value if math.isfinite(value) else None for value in values],
            "features": schema.decode(receipt.vector) if schema is not None else None,
        }
        return json_response(vars(receipt) | shown)

    @app.post(
        "/predictions/{prediction_id}/replay",
        response_model=ReplayAnswer,
        responses=documents(REPLAYED),
    )
    async def replay_prediction(prediction_id: PredictionId) -> Response:
        """Score the logged vector again with the logged version, also one that serves no longer.

        On the logged engine the answer is equal to the bit; otherwise `differs` says what is not
        as it was: the engine, the artifact, or a version that is gone.
        """
        again = await _replay(await find_receipt(receipts, prediction_id), models, pool)
        return json_response(again.model_dump())


async def find_receipt(receipts: Receipts, prediction_id: UUID) -> Receipt:
    """Find the receipt of a prediction.

    Raises
    ------
    UnknownPrediction
        If there is none.
    ReceiptsUnavailable
        If it cannot be found out.
    """
    receipt = await receipts.find(prediction_id)
    if receipt is None:
        raise UnknownPrediction(f"There is no prediction {prediction_id}.")
    return receipt


async def _replay(receipt: Receipt, models: PastModels, pool: WorkPool) -> ReplayAnswer:
    """Score the logged vector with the logged versions; say in words what is not as it was."""
    arms, differs, engine = [], [], models.follower.engine
    if receipt.engine != engine:
        differs.append(f"engine: logged '{receipt.engine}', here '{engine}'")
    for scored in receipt.scored:
        arm, problem = await _replay_arm(receipt, scored, models, pool)
        arms.append(arm)
        differs += [problem] if problem else []
    differs += [
        f"answer of {arm.model_version}: logged {arm.logged!r}, here {arm.replayed!r}, "
        f"{abs(arm.replayed - arm.logged):.2g} apart"
        for arm in arms
        if arm.replayed is not None and arm.logged is not None and arm.replayed != arm.logged
    ]
    return ReplayAnswer(
        prediction_id=receipt.prediction_id,
        equal=all(arm.logged == arm.replayed for arm in arms),
        differs=differs,
        logged_engine=receipt.engine,
        engine=engine,
        arms=arms,
    )


async def _replay_arm(
    receipt: Receipt, scored: ScoredOutput, models: PastModels, pool: WorkPool
) -> tuple[ReplayedArmAnswer, str | None]:
    """Let one scored arm answer again; say what keeps it from that, if anything does."""
    again = ReplayedArmAnswer(
        arm=scored.arm,
        model_version=scored.model_version,
        digest=None,
        logged=scored.probability,
        replayed=None,
    )
    try:
        _, model = await models.find(receipt.generation, scored)
    except ModelUnusable as error:
        return again, f"model: {error}"
    again.digest = model.digest
    if receipt.schema_fingerprint != model.schema.fingerprint:
        return again, (
            f"schema: the vector follows {receipt.schema_fingerprint}, {scored.model_version} "
            f"takes {model.schema.fingerprint}"
        )
    again.replayed = await pool.run(model.probability, receipt.vector)
    return again, None


def documents(example: object) -> dict[int | str, dict[str, Any]]:
    """What a path of one prediction may answer, for OpenAPI."""
    return answers(
        example,
        _404=f"There is no prediction {EXAMPLE_ID}.",
        _422="path.prediction_id is 'abc': Input should be a valid UUID",
        _503="PostgreSQL does not answer: …",
    )
