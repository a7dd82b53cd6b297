"""Builds what this room needs from the settings."""

from __future__ import annotations

from configs.settings import Settings
from infrastructure.embedded import mlflow_url, postgres_url
from models.registry import ModelRegistry
from models.study_store import StudyStore


def model_registry(settings: Settings) -> ModelRegistry:
    """The registry of the configured model; starts the embedded MLflow when no URL is given."""
    return ModelRegistry(mlflow_url(settings), settings.model_name)


def study_store(settings: Settings) -> StudyStore:
    """The studies of tuning; starts the embedded PostgreSQL when no URL is configured."""
    return StudyStore(postgres_url(settings))
