"""``GET /model`` and ``GET /features/{user_id}``: what answers, and on what."""

# Annotations are values here: FastAPI reads them.
import asyncio
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Path, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, create_model

from configs.errors import FTIError
from feature_store.definitions.entity import LARGEST_KEY, Entity, KeyValue
from feature_store.definitions.view import FeatureView
from feature_store.errors import InvalidValue, SchemaMismatch
from feature_store.online.row_codec import moment_of
from infrastructure.work import WorkPool
from models.deployment.record import Arm
from models.errors import RegistryUnavailable
from models.registry.mlflow_api import MlflowApi
from serving.answers import json_response
from serving.deployment.live import DeploymentFollower
from serving.errors import UnknownEntity
from serving.middleware.access import current_caller
from serving.model_loader import ModelLoader
from serving.prediction.predictor import Predictor
from serving.routes.route_documents import answers

FACTS = (
    *("family", "dataset_digest", "training_key", "start", "end", "seed", "calibration"),
    *("threshold_objective", "exclude_protected", "packages"),
)
"""What an artifact's ``config.json`` says of its training."""
TAGS = ("git_commit", "code_version", "trained_at", "parent", "stage")
"""What the registry adds to it."""
REGISTRY_LIMIT_S = 2.0

UserId = Annotated[
    int, Path(ge=-LARGEST_KEY, le=LARGEST_KEY, description="Whose.", examples=[12345])
]
KeyText = Annotated[
    str, Path(description="Whose: the key; of several parts separated by commas, or a JSON array.")
]


class LineageAnswer(BaseModel):
    """How a version came about; `problem` says why the registry added nothing."""

    training: dict[str, Any]
    registry: dict[str, str]
    metrics: dict[str, float]
    problem: str | None


class ArmAnswer(BaseModel):
    """One arm of the deployment that serves."""

    arm: str
    model_version: str
    version: int
    share: float
    threshold: float
    engine: str
    schema_fingerprint: str
    n_features: int
    digest: str
    artifact_uri: str | None
    lineage: LineageAnswer | None


class ModelAnswer(BaseModel):
    """The deployment that serves."""

    generation: int
    mode: str
    experiment: str | None
    deployed_at: datetime
    action: str
    reason: str
    confirmed: bool
    arms: list[ArmAnswer]


class FeaturesAnswer(BaseModel):
    """A user's stored features."""

    user_id: int | str
    schema_fingerprint: str
    event_time: datetime | None
    created_time: datetime | None
    age_s: float | None
    stale: bool
    outdated: bool
    missing: list[str]
    unseen: list[str]
    features: dict[str, bool | int | float | str | None] | None


MODEL = {
    "generation": 7,
    "mode": "split",
    "experiment": None,
    "deployed_at": "2026-01-31T12:00:00Z",
    "action": "deploy",
    "reason": "",
    "confirmed": True,
    "arms": [
        {
            "arm": "champion",
            "model_version": "income-xgb-v3",
            "version": 3,
            "share": 1.0,
            "threshold": 0.41,
            "engine": "onnx 1.22.0",
            "schema_fingerprint": "0123456789abcdef",
            "n_features": 47,
            "digest": "9f86d081884c7d65…",
            "artifact_uri": "mlflow-artifacts:/1/models/m-1/artifacts/data",
            "lineage": {
                "training": {"family": "xgboost", "dataset_digest": "2c26b46b…", "seed": 7},
                "registry": {"git_commit": "a8ea9bc…", "trained_at": "2026-01-31T11:00:00+00:00"},
                "metrics": {"auc": 0.927, "log_loss": 0.28},
                "problem": None,
            },
        }
    ],
}
FEATURES = {
    "user_id": 12345,
    "schema_fingerprint": "0123456789abcdef",
    "event_time": "2026-01-30T09:00:00Z",
    "created_time": "2026-01-30T09:00:01Z",
    "age_s": 97_200.0,
    "stale": False,
    "outdated": False,
    "missing": ["occupation"],
    "unseen": [],
    "features": {"age": 35, "workclass": "Private", "occupation": None},
}


class Lineages:
    """Finds lineages; what has been found completely is kept.

    Parameters
    ----------
    loader
        Gives artifacts.
    registry_url
        Gives where MLflow runs; None when it does not.
    model_name
        The registered model.
    """

    def __init__(
        self,
        loader: ModelLoader,
        registry_url: Callable[[], str | None],
        model_name: str,
        pool: WorkPool,
    ) -> None:
        self.loader = loader
        self.registry_url = registry_url
        self.model_name = model_name
        self.pool = pool
        self._known: dict[str, LineageAnswer] = {}

    async def of(self, arm: Arm) -> LineageAnswer:
        """Find the lineage of an arm's version; waits a little for the registry.

        Raises
        ------
        ModelUnusable
            If its artifact cannot be had.
        """
        known = self._known.get(arm.digest)
        if known is not None:
            return known
        config = (await self.pool.run(self.loader.artifact, arm)).config
        training = {name: config[name] for name in FACTS if name in config}
        found = LineageAnswer(training=training, registry={}, metrics={}, problem=None)
        try:
            async with asyncio.timeout(REGISTRY_LIMIT_S):
                found.registry, found.metrics = await self.pool.run(self._ask_registry, arm)
        except TimeoutError:
            found.problem = f"MLflow did not answer in {REGISTRY_LIMIT_S:g} s."
        except FTIError as error:
            found.problem = str(error)
        else:
            self._known[arm.digest] = found
        return found

    def _ask_registry(self, arm: Arm) -> tuple[dict[str, str], dict[str, float]]:
        """Give what MLflow adds: the commit, times, parent and stage; and metrics of the test."""
        url = self.registry_url()
        if url is None:
            raise RegistryUnavailable("MLflow does not run here; start it: make up.")
        api = MlflowApi(url)
        try:
            which = {"name": self.model_name, "version": str(arm.version)}
            version = api.get("model-versions/get", **which)["model_version"]
            run = api.get("runs/get", run_id=version["run_id"])["run"]
        finally:
            api.close()
        tags = {tag["key"]: tag["value"] for tag in version.get("tags", [])}
        metrics = run.get("data", {}).get("metrics", [])
        return (
            {name: tags[name] for name in TAGS if name in tags} | {"run_id": version["run_id"]},
            {metric["key"]: metric["value"] for metric in metrics},
        )


def add_model(app: FastAPI, follower: DeploymentFollower, lineages: Lineages) -> None:
    """Add ``GET /model``."""

    @app.get(
        "/model",
        response_model=ModelAnswer,
        responses=answers(MODEL, _503="No model is deployed. Train one and deploy it: …"),
    )
    async def show_model() -> Response:
        """Show which versions answer which share of the traffic.

        Where they come from (`artifact_uri`, `lineage`) is told to those who may operate the API.
        """
        live = follower.require()
        tells_all = current_caller.get().may("operate")
        found: list[LineageAnswer | None] = [None] * len(live.arms)
        if tells_all:
            found = list(await asyncio.gather(*[lineages.of(arm.arm) for arm in live.arms]))
        arms = [
            {
                "arm": each.arm.name,
                "model_version": each.arm.label,
                "version": each.arm.version,
                "share": each.arm.share,
                "threshold": each.model.threshold,
                "engine": each.context.engine,
                "schema_fingerprint": each.model.schema.fingerprint,
                "n_features": len(each.model.schema),
                "digest": each.arm.digest,
                "artifact_uri": each.arm.artifact_uri if tells_all else None,
                "lineage": lineage and lineage.model_dump(),
            }
            for each, lineage in zip(live.arms, found, strict=True)
        ]
        deployment = live.deployment
        about = {
            "generation": deployment.generation,
            "mode": deployment.mode,
            "experiment": deployment.experiment,
            "deployed_at": deployment.created_at,
            "action": deployment.action,
            "reason": deployment.reason,
            "confirmed": follower.is_confirmed,
        }
        return json_response(about | {"arms": arms})


def add_features(
    app: FastAPI, view: FeatureView, predictor: Predictor, ttl: timedelta | None
) -> None:
    """Add ``GET /features/{user_id}``.

    Parameters
    ----------
    view
        Its features as they are defined now are shown when nothing is deployed.
    predictor
        The one of ``/predict``, for what it knows.
    ttl
        Age beyond which stored features are taken as missing; None for never.
    """
    key_type = UserId if view.key.is_whole else KeyText
    answer_model = create_model(
        "FeaturesAnswer",
        __base__=FeaturesAnswer,
        __doc__=FeaturesAnswer.__doc__,
        user_id=(int if view.key.is_whole else str, ...),
    )

    # A key may hold slashes.
    @app.get(
        "/features/{user_id}" if view.key.is_whole else "/features/{user_id:path}",
        response_model=answer_model,
        responses=answers(
            FEATURES,
            _404="The online store has no features for user 999999.",
            _422="path.user_id is 'abc': Input should be a valid integer",
            _503="Redis did not answer within 50 ms.",
        ),
    )
    async def show_features(user_id: key_type) -> Response:  # type: ignore[valid-type]
        """Show a user's stored features, in the version that the champion takes.

        Words stand for categories, and null for what is missing. `stale` and `outdated` say that
        predictions take them as missing: they are older than allowed, or of another definition.
        """
        live = predictor.follower.live
        served = live.arms[0].model.schema if live else view.schema
        schema = served.whole or served  # rows are stored whole
        key = _key_of(view.key, user_id)
        shown = key if view.key.is_whole else view.key.text(key)
        about = {"user_id": shown, "schema_fingerprint": schema.fingerprint}
        try:
            row = await predictor.reader.rows(schema).read(view.key.identity(key))
        except SchemaMismatch:
            return json_response(about | _NOTHING | {"outdated": True})
        if row is None:
            raise UnknownEntity(
                f"The online store has no features for user {shown}. Write them: "
                "python pipelines/feature_pipeline.py"
            )
        age_s = time.time() - row.event_time_us / 1_000_000
        vectors = schema.known_codes(row.vector[np.newaxis, :])
        [unknowns] = predictor.features.of(schema).missing.of(vectors)
        return json_response(
            about
            | {
                "event_time": moment_of(row.event_time_us),
                "created_time": moment_of(row.created_time_us),
                "age_s": round(age_s, 3),
                "stale": ttl is not None and age_s > ttl.total_seconds(),
                "outdated": False,
                "missing": unknowns.missing,
                "unseen": unknowns.unseen,
                "features": schema.decode(row.vector, row.exact),
            }
        )


def _key_of(entity: Entity, given: int | str) -> KeyValue:
    if isinstance(given, int):
        return given
    try:
        return entity.parse(given)
    except InvalidValue as error:
        about = {"type": "value_error", "loc": ("path", "user_id"), "msg": str(error)}
        raise RequestValidationError([{**about, "input": given}]) from None


_NOTHING: dict[str, object] = {
    "event_time": None,
    "created_time": None,
    "age_s": None,
    "stale": False,
    "missing": [],
    "unseen": [],
    "features": None,
}
