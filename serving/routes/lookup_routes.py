"""``GET /model`` and ``GET /features/{user_id}``: what answers, and on what."""

# Annotations are values here: FastAPI reads them.
import asyncio
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import FastAPI, Path, Response
from pydantic import BaseModel

from feature_store.definitions.schema import FeatureSchema
from feature_store.errors import SchemaMismatch
from feature_store.online.row_codec import EPOCH, Row
from serving.answers import json_response
from serving.deployment.live import DeploymentWatcher
from serving.deployment.live_arms import LiveArm
from serving.errors import UnknownEntity
from serving.redis.reader import OnlineReader
from serving.routes.lineage import Lineage, Lineages
from serving.routes.request_schema import LARGEST_KEY
from serving.routes.route_documents import answers

UserId = Annotated[int, Path(ge=1, le=LARGEST_KEY, description="Whose.", examples=[12345])]


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
    artifact_uri: str
    lineage: LineageAnswer


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

    user_id: int
    schema_fingerprint: str
    event_time: datetime | None
    created_time: datetime | None
    age_s: float | None
    stale: bool
    outdated: bool
    missing: list[str]
    features: dict[str, int | float | str | None] | None


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
    "features": {"age": 35, "workclass": "Private", "occupation": None},
}


def add_model(app: FastAPI, watcher: DeploymentWatcher, lineages: Lineages) -> None:
    """Add ``GET /model``."""

    @app.get(
        "/model",
        response_model=ModelAnswer,
        responses=answers(MODEL, _503="No model is deployed. Train one and deploy it: …"),
    )
    async def show_model() -> Response:
        """Show which versions answer which share of the traffic, and where they come from."""
        live = watcher.require()
        found = await asyncio.gather(*[lineages.of(arm.arm) for arm in live.arms])
        arms = [_arm(arm, lineage) for arm, lineage in zip(live.arms, found, strict=True)]
        deployment = live.deployment
        about = {
            "generation": deployment.generation,
            "mode": deployment.mode,
            "experiment": deployment.experiment,
            "deployed_at": deployment.created_at,
            "action": deployment.action,
            "reason": deployment.reason,
            "confirmed": watcher.is_confirmed,
        }
        return json_response(about | {"arms": arms})


def add_features(
    app: FastAPI,
    reader: OnlineReader,
    watcher: DeploymentWatcher,
    present: FeatureSchema,
    ttl: timedelta | None,
    missing: Callable[[FeatureSchema, Row], list[str]],
) -> None:
    """Add ``GET /features/{user_id}``.

    Parameters
    ----------
    present
        The features as they are defined now: shown when nothing is deployed.
    ttl
        Age beyond which stored features are taken as missing; None for never.
    missing
        Names the raw attributes that a row lacks.
    """

    @app.get(
        "/features/{user_id}",
        response_model=FeaturesAnswer,
        responses=answers(
            FEATURES,
            _404="The online store has no features for user 999999.",
            _422="path.user_id is 'abc': Input should be a valid integer",
            _503="Redis did not answer within 50 ms.",
        ),
    )
    async def show_features(user_id: UserId) -> Response:
        """Show a user's stored features, in the version that the champion takes.

        Words stand for categories, and null for what is missing. `stale` and `outdated` say that
        predictions take them as missing: they are older than allowed, or of another definition.
        """
        schema = _served(watcher) or present
        about = {"user_id": user_id, "schema_fingerprint": schema.fingerprint}
        try:
            row = await reader.rows(schema).read(user_id)
        except SchemaMismatch:
            return json_response(about | _NOTHING | {"outdated": True})
        if row is None:
            raise UnknownEntity(
                f"The online store has no features for user {user_id}. Write them: "
                "python pipelines/feature_pipeline.py"
            )
        age_s = time.time() - row.event_time_us / 1_000_000
        return json_response(
            about
            | {
                "event_time": _time(row.event_time_us),
                "created_time": _time(row.created_time_us),
                "age_s": round(age_s, 3),
                "stale": ttl is not None and age_s > ttl.total_seconds(),
                "outdated": False,
                "missing": missing(schema, row),
                "features": schema.decode(row.vector),
            }
        )


_NOTHING: dict[str, object] = {
    "event_time": None,
    "created_time": None,
    "age_s": None,
    "stale": False,
    "missing": [],
    "features": None,
}


def _served(watcher: DeploymentWatcher) -> FeatureSchema | None:
    """The version of the view that the champion's features are stored in."""
    if watcher.live is None:
        return None
    schema = watcher.live.arms[0].model.schema
    return schema.whole or schema


def _arm(live: LiveArm, lineage: Lineage) -> dict[str, Any]:
    arm, model = live.arm, live.model
    return {
        "arm": arm.name,
        "model_version": arm.label,
        "version": arm.version,
        "share": arm.share,
        "threshold": model.threshold,
        "engine": live.context.engine,
        "schema_fingerprint": model.schema.fingerprint,
        "n_features": len(model.schema),
        "digest": arm.digest,
        "artifact_uri": arm.artifact_uri,
        "lineage": lineage.to_json(),
    }


def _time(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)
