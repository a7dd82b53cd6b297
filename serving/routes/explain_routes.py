"""``POST /explain`` and ``POST /predictions/{id}/explain``: what each feature added."""

# Annotations are values here: FastAPI reads the type of a body that is made at run time.
from typing import Any

from fastapi import FastAPI, Response
from pydantic import BaseModel

from feature_store.definitions.view import FeatureView
from serving.answers import json_response
from serving.routes.explainer import Explanation
from serving.routes.explanations import Explanations, Subject
from serving.routes.json_route import JsonRoute
from serving.routes.receipt_routes import FindReceipt, PredictionId
from serving.routes.request_schema import request_schema, to_request
from serving.routes.route_documents import EXAMPLE_ID, answers


class Contribution(BaseModel):
    """What one feature added to the log-odds."""

    feature: str
    value: int | float | str | None
    contribution: float


class ExplanationAnswer(BaseModel):
    """What the features add to the log-odds of an answer, largest first.

    `base` and all contributions sum to `margin`. `probability` is what the model answers.
    """

    model_version: str
    arm: str
    probability: float
    base: float
    margin: float
    method: str
    contributions: list[Contribution]


EXAMPLE = {
    "model_version": "income-xgb-v3",
    "arm": "champion",
    "probability": 0.82,
    "base": -1.21,
    "margin": 1.52,
    "method": "TreeSHAP, exact",
    "contributions": [
        {"feature": "education_num", "value": 14, "contribution": 1.93},
        {"feature": "age", "value": 41, "contribution": 0.8},
    ],
}


def add_explain(
    app: FastAPI, explanations: Explanations, view: FeatureView, find: FindReceipt
) -> None:
    """Add the paths.

    Parameters
    ----------
    find
        Gives the receipt of a prediction.
    """
    body_schema = request_schema(view)

    async def explain(body: body_schema) -> Response:  # type: ignore[valid-type]
        """Explain what `/predict` would answer: what each feature adds to the log-odds.

        `base` and all contributions sum to `margin`. They are exact for trees; for other models
        they are estimated, and sum exactly too. `probability` is that of the margin, unless the
        model calibrates it behind the sum. No prediction is made: there is no receipt.
        """
        subject = await explanations.of_request(to_request(body, view.entity))
        return json_response(_shown(subject, await explanations.explain(subject)))

    app.router.add_api_route(
        "/explain",
        explain,
        methods=["POST"],
        route_class_override=JsonRoute,
        response_model=ExplanationAnswer,
        openapi_extra=_example(view),
        responses=answers(
            EXAMPLE,
            _404="The online store has no features for user_id 999999.",
            _413="",
            _422="age is 300: Input should be less than or equal to 120",
            _503="2 explanations are being made, and no more at once. Try again in a moment.",
        ),
    )

    @app.post(
        "/predictions/{prediction_id}/explain",
        response_model=ExplanationAnswer,
        responses=answers(
            EXAMPLE,
            _404=f"There is no prediction {EXAMPLE_ID}.",
            _422="path.prediction_id is 'abc': Input should be a valid UUID",
            _503="PostgreSQL does not answer: …",
        ),
    )
    async def explain_prediction(prediction_id: PredictionId) -> Response:
        """Explain an answer that was given: the logged vector, by the logged version."""
        subject = await explanations.of_receipt(await find(prediction_id))
        return json_response(_shown(subject, await explanations.explain(subject)))


def _shown(subject: Subject, found: Explanation) -> dict[str, Any]:
    values = subject.model.schema.decode(subject.vector)
    shares = zip(values.items(), found.contributions.tolist(), strict=True)
    contributions = [
        {"feature": name, "value": value, "contribution": share} for (name, value), share in shares
    ]
    contributions.sort(key=lambda each: -abs(each["contribution"]))
    return {
        "model_version": subject.arm.label,
        "arm": subject.arm.name,
        "probability": found.probability,
        "base": found.base,
        "margin": found.margin,
        "method": found.method,
        "contributions": contributions,
    }


def _example(view: FeatureView) -> dict[str, Any]:
    return {"requestBody": {"content": {"application/json": {"example": {view.entity: 12345}}}}}
