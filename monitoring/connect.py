"""Builds what this room needs from the settings."""

from __future__ import annotations

from configs.settings import Settings
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.postgres import Postgres
from infrastructure.embedded import postgres_url
from models.connect import postgres
from monitoring.experiment_store import ExperimentStore
from monitoring.exposure_reader import ExposureReader


def exposure_reader(settings: Settings) -> ExposureReader:
    """What reads the predictions of A/B tests; starts the embedded PostgreSQL without a URL."""
    return ExposureReader(Postgres(postgres_url(settings)), MODEL_VIEW.schema)


def experiment_store(settings: Settings) -> ExperimentStore:
    """The decisions about A/B tests of the registered model."""
    return ExperimentStore(postgres(settings), settings.model_name)
