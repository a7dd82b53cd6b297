"""Builds what this room needs from the settings."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import psycopg

from configs.settings import Settings
from infrastructure.embedded import mlflow_url, postgres_url
from models.artifact.cache import ArtifactCache, MlflowFiles
from models.artifact.mirror import ArtifactMirror
from models.deployment.plan import ExperimentPlan
from models.deployment.record import Arm, Deployment
from models.deployment.store import DeploymentStore
from models.registry.versions import ModelRegistry

if TYPE_CHECKING:
    from models.deployment.promotion import Promoter
    from models.gates.admission import Admission, DecisionStore
    from models.gates.held_out import History
    from models.gates.runner import GateRunner
    from models.lifecycle.watch import RegistryWatch
    from models.training.study_store import StudyStore

CONNECT_LIMIT_S = 2
STATEMENT_LIMIT = "SET statement_timeout = '10s'"

Connection = psycopg.Connection[Any]


def model_registry(settings: Settings) -> ModelRegistry:
    """The registry of the configured model; starts the embedded MLflow when no URL is given."""
    return ModelRegistry(mlflow_url(settings), settings.model_name)


def study_store(settings: Settings) -> StudyStore:
    """The studies of tuning; starts the embedded PostgreSQL when no URL is configured."""
    from models.training.study_store import StudyStore

    return StudyStore(postgres_url(settings))


def deployment_store(settings: Settings) -> DeploymentStore:
    """The records of deployments of the registered model."""
    return DeploymentStore(postgres(settings), settings.model_name)


def current_deployment(settings: Settings) -> Deployment | None:
    """What serves; None before the first deployment."""
    with closing(deployment_store(settings)) as store:
        return store.current()


def champion_of(settings: Settings) -> Arm | None:
    """What serves in production; None before the first deployment."""
    current = current_deployment(settings)
    return current.champion if current else None


def decision_store(settings: Settings) -> DecisionStore:
    """The decisions of the gates about the registered model's versions."""
    from models.gates.admission import DecisionStore

    return DecisionStore(postgres(settings), settings.model_name)


def history(settings: Settings) -> History:
    """What draws the rows of earlier trainings again."""
    from feature_store.connect import offline_store, ttl
    from feature_store.feature_definitions import MODEL_VIEW
    from models.gates.held_out import History

    return History(offline_store(settings), MODEL_VIEW.entity, ttl(settings))


def gate_runner(settings: Settings) -> GateRunner:
    """What decides whether a version may leave the stage None."""
    from models.gates.runner import GateRunner

    return GateRunner(settings.training.gates, history(settings), artifact_cache(settings), now)


def admission(settings: Settings, registry: ModelRegistry | None = None) -> Admission:
    """What lets a version pass the gates or refuses it; nothing is read before it is asked."""
    from models.gates.admission import Admission

    return Admission(
        decision_store(settings),
        lambda version, champion: gate_runner(settings).judge_again(version, champion),
        registry or model_registry(settings),
        now,
    )


def promoter(settings: Settings) -> Promoter:
    """What moves versions through the stages."""
    from models.deployment.promotion import Promoter

    registry, store = model_registry(settings), deployment_store(settings)
    mirror, artifacts = artifact_mirror(settings), artifact_cache(settings)

    def keep(arm: Arm) -> None:
        if mirror is not None:
            mirror.fill(artifacts.get(arm.artifact_uri, arm.digest))

    return Promoter(registry, store, admission(settings, registry), now, keep)


def registry_watch(settings: Settings, by: Promoter | None = None) -> RegistryWatch:
    """What adopts or puts back the changes of MLflow clients, by a promoter."""
    from models.lifecycle.watch import RegistryWatch

    artifacts, test = artifact_cache(settings), settings.deployment.ab_test
    return RegistryWatch(
        by or promoter(settings),
        lambda version: artifacts.get(version.artifact_uri, version.digest),
        test.challenger_share,
        test.salt,
        experiment_plan(settings),
    )


def experiment_plan(settings: Settings, *, ramp: bool = False) -> ExperimentPlan:
    """How a test that begins now is judged; with a ramp, through which shares it goes."""
    values = settings.deployment.ab_test.model_dump(exclude={"challenger_share", "salt"})
    worth = settings.training.decision
    plan = ExperimentPlan.from_dict(
        values
        | {
            "cost_false_positive": worth.cost_false_positive,
            "cost_false_negative": worth.cost_false_negative,
        }
    )
    return plan if ramp else replace(plan, ramp=())


def now() -> datetime:
    """The present time in UTC."""
    return datetime.now(UTC)


def artifact_cache(settings: Settings) -> ArtifactCache:
    """The artifacts below ``var/models``; the mirror, then MLflow, are asked for others."""
    return ArtifactCache(
        settings.var_dir / "models",
        MlflowFiles(cache(partial(mlflow_url, settings))),
        artifact_mirror(settings),
    )


def artifact_mirror(settings: Settings) -> ArtifactMirror | None:
    """The mirror of artifacts; None where none is configured."""
    address = settings.deployment.artifact_mirror
    return None if address is None else ArtifactMirror(address)


def postgres(settings: Settings) -> Callable[[], Connection]:
    """Give what opens connections to PostgreSQL; none waits for ever."""
    url = cache(partial(postgres_url, settings))

    def connect() -> Connection:
        connection = psycopg.connect(
            url(), connect_timeout=CONNECT_LIMIT_S, application_name="fti", autocommit=True
        )
        connection.execute(STATEMENT_LIMIT)
        return connection

    return connect
