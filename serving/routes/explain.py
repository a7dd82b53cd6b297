"""``POST /explain`` and ``POST /predictions/{id}/explain``: what each feature added."""

# Annotations are values here: FastAPI reads the type of a body that is made at run time.
import threading
import time
from collections import OrderedDict
from collections.abc import Collection
from typing import Any, Literal

import numpy as np
from fastapi import FastAPI, Response
from numpy.typing import NDArray
from pydantic import BaseModel

from feature_store.definitions.schema import MISSING
from feature_store.definitions.view import FeatureView
from infrastructure.work import WorkPool, checkpoint
from models.deployment.record import Arm
from models.trees.tree_shap import TreeExplainer
from monitoring.log.receipts import Receipt, Receipts
from monitoring.log.record import as_text, new_prediction_id
from serving.answers import json_response
from serving.bodies.key_fields import example_of
from serving.bodies.request_schema import request_schema, to_request
from serving.deployment.past_models import PastModels
from serving.errors import ModelUnusable, UnknownEntity
from serving.middleware.access import current_caller
from serving.model_loader import LoadedModel
from serving.prediction.explainer import SampledExplainer, explainer_of
from serving.prediction.predictor import PredictionRequest, Predictor
from serving.routes.json_route import JsonRoute
from serving.routes.receipts import PredictionId, documents, find_receipt
from serving.routes.route_documents import answers, body_example

KEPT = 2
"""Models of which is kept what was made to explain them."""

Shown = Collection[str] | None
"""Features whose values the caller may see; None for all."""
Subject = tuple[Arm, LoadedModel, NDArray[np.float32], Shown]
"""What is explained: the answer of which arm, by which model, to which vector ``(p,)``."""


class Contribution(BaseModel):
    """What one feature added to the log-odds."""

    feature: str
    value: int | float | str | None = None
    contribution: float


class ExplanationAnswer(BaseModel):
    """What the features add to the log-odds of an answer, largest first.

    `base` and all contributions sum to `margin`. `probability` is what the model answers.
    `values` says whether contributions come with the values of the features: of stored ones only
    to callers who may read them; the others have those that the request gave.
    """

    model_version: str
    arm: str
    probability: float
    base: float
    margin: float
    method: str
    values: Literal["shown", "withheld"]
    contributions: list[Contribution]


EXAMPLE = {
    "model_version": "income-xgb-v3",
    "arm": "champion",
    "probability": 0.82,
    "base": -1.21,
    "margin": 1.52,
    "method": "TreeSHAP, exact",
    "values": "shown",
    "contributions": [
        {"feature": "education_num", "value": 14, "contribution": 1.93},
        {"feature": "age", "value": 41, "contribution": 0.8},
    ],
}


class Explanations:
    """Explains requests and predictions in threads.

    Parameters
    ----------
    predictor
        The one of ``/predict``, for what it knows.
    models
        Finds models that serve no longer.
    pool
        Where explanations are made.
    """

    def __init__(self, predictor: Predictor, models: PastModels, pool: WorkPool) -> None:
        self.predictor = predictor
        self.models = models
        self.pool = pool
        self._kept: OrderedDict[str, tuple[TreeExplainer | SampledExplainer, str]] = OrderedDict()
        self._one_at_a_time = threading.Lock()

    async def of_request(self, request: PredictionRequest) -> Subject:
        """Find what would be answered to a request, and by whom.

        Raises
        ------
        NothingDeployed, UnknownEntity, AttributesUnusable
            As for a prediction.
        """
        now_us = time.time_ns() // 1000
        unit = request.unit or as_text(new_prediction_id(now_us))
        live = self.predictor.follower.require().arm_of(unit)
        features = self.predictor.features.of(live.model.schema)
        stored = None
        if request.user_id is not None:
            try:
                stored = await features.read(request.user_id, now_us, request.key)
            except UnknownEntity:
                if not request.tells_something:
                    raise
                stored = features.stored.not_stored
        [vector] = features.vectors([(request.attributes, stored)])
        is_told = stored is None or current_caller.get().may("read_features")
        return live.arm, live.model, vector, None if is_told else self._told(request)

    def _told(self, request: PredictionRequest) -> Shown:
        """The attributes that a request tells; what it leaves open may follow from stored ones."""
        defined = self.predictor.features.engine.view.definitions
        return {
            name
            for name, value in request.attributes.items()
            if (code := defined[name].encode(value)) == code
            and (defined[name].kind != "category" or code != MISSING)
        }

    async def of_receipt(self, receipt: Receipt) -> Subject:
        """Find what was answered in a prediction, and by whom.

        Raises
        ------
        ModelUnusable
            If the model cannot be had as it was.
        StoreUnavailable
            If the record of deployments cannot be read.
        """
        [scored] = [each for each in receipt.scored if each.arm == receipt.arm]
        arm, model = await self.models.find(receipt.generation, scored)
        if model.schema.fingerprint != receipt.schema_fingerprint:
            raise ModelUnusable(
                f"{arm.label} takes features {model.schema.fingerprint}; the logged vector has "
                f"{receipt.schema_fingerprint}."
            )
        return arm, model, receipt.vector, None

    async def explain(
        self, arm: Arm, model: LoadedModel, vector: NDArray[np.float32], shown: Shown
    ) -> dict[str, Any]:
        """Explain a subject: an `ExplanationAnswer` as JSON values.

        Raises
        ------
        WorkRefused
            If others are being made for too long.
        WorkOverdue
            If it is not done in time.
        ModelUnusable
            If the model's artifact cannot be had.
        """
        return await self.pool.run(self._explain, arm, model, vector, shown)

    def _explain(
        self, arm: Arm, model: LoadedModel, vector: NDArray[np.float32], shown: Shown
    ) -> dict[str, Any]:
        explainer, method = self._explainer(arm, model)
        checkpoint()
        shares = explainer.contributions(vector)
        values = model.schema.decode_places(vector)
        contributions = [
            {"feature": name, "contribution": share}
            | ({"value": value} if shown is None or name in shown else {})
            for (name, value), share in zip(values.items(), shares.tolist(), strict=True)
        ]
        contributions.sort(key=lambda each: -abs(each["contribution"]))
        return {
            "model_version": arm.label,
            "arm": arm.name,
            "probability": model.probability(vector),
            "base": explainer.base,
            "margin": explainer.base + float(shares.sum()),
            "method": method,
            "values": "shown" if shown is None else "withheld",
            "contributions": contributions,
        }

    def _explainer(
        self, arm: Arm, model: LoadedModel
    ) -> tuple[TreeExplainer | SampledExplainer, str]:
        with self._one_at_a_time:
            if model.digest not in self._kept:
                artifact = self.models.loader.artifact(arm)
                self._kept[model.digest] = explainer_of(artifact, model.scorer)
            self._kept.move_to_end(model.digest)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return self._kept[model.digest]


def add_explain(
    app: FastAPI, view: FeatureView, explanations: Explanations, receipts: Receipts
) -> None:
    """Add the paths.

    Parameters
    ----------
    view
        Whose raw columns and key a request may name.
    receipts
        Finds that of a prediction.
    """
    body_schema = request_schema(view)

    async def explain(body: body_schema) -> Response:  # type: ignore[valid-type]
        """Explain what `/predict` would answer: what each feature adds to the log-odds.

        `base` and all contributions sum to `margin`. They are exact for trees; for other models
        they are estimated, and sum exactly too. `probability` is that of the margin, unless the
        model calibrates it behind the sum. No prediction is made: there is no receipt.
        """
        subject = await explanations.of_request(to_request(body, view.key))
        return json_response(await explanations.explain(*subject))

    app.router.add_api_route(
        "/explain",
        explain,
        methods=["POST"],
        route_class_override=JsonRoute,
        response_model=ExplanationAnswer,
        openapi_extra=body_example(example_of(view.key, 12345)),
        responses=answers(
            EXAMPLE,
            _404="The online store has no features for user_id 999999.",
            _413="",
            _422="age is 300: Input should be less than or equal to 120",
            _503="As many explanations are being made as may be at once, and there was no room …",
        ),
    )

    @app.post(
        "/predictions/{prediction_id}/explain",
        response_model=ExplanationAnswer,
        responses=documents(EXAMPLE),
    )
    async def explain_prediction(prediction_id: PredictionId) -> Response:
        """Explain an answer that was given: the logged vector, by the logged version."""
        subject = await explanations.of_receipt(await find_receipt(receipts, prediction_id))
        return json_response(await explanations.explain(*subject))
