"""Builds what this room needs from the settings."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import psycopg

from configs.settings import Settings
from infrastructure.embedded import mlflow_url, postgres_url
from models.artifact_cache import ArtifactCache, MlflowFiles
from models.deployment_store import DeploymentStore
from models.registry import ModelRegistry

CONNECT_LIMIT_S = 2
STATEMENT_LIMIT = "SET statement_timeout = '10s'"

Connection = psycopg.Connection[Any]


def model_registry(settings: Settings) -> ModelRegistry:
    """The registry of the configured model; starts the embedded MLflow when no URL is given."""
    return ModelRegistry(mlflow_url(settings), settings.model_name)


def deployment_store(settings: Settings) -> DeploymentStore:
    """The records of deployments of the registered model."""
    return DeploymentStore(postgres(settings), settings.model_name)


def artifact_cache(settings: Settings) -> ArtifactCache:
    """The artifacts below ``var/models``; MLflow is asked for those that are not there."""
    return ArtifactCache(
        settings.var_dir / "models", MlflowFiles(cache(partial(mlflow_url, settings)))
    )


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
