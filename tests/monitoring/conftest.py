"""A small model of real rows, and a world of simulated visitors in a database of its own."""

from __future__ import annotations

import pytest

from configs.settings import Settings
from feature_store.training_data import TrainingRows
from models.artifact.artifact import ModelArtifact
from tests.worlds.monitoring import People, Watching, people_of, train_artifact
from tests.worlds.rows import first_rows


@pytest.fixture(scope="session")
def rows() -> TrainingRows:
    return first_rows(12_000)


@pytest.fixture(scope="session")
def artifact(rows: TrainingRows, tmp_path_factory: pytest.TempPathFactory) -> ModelArtifact:
    """A model of some trees, packed with the profile of its training."""
    return train_artifact(rows, tmp_path_factory.mktemp("model") / "artifact")


@pytest.fixture(scope="session")
def people(rows: TrainingRows) -> People:
    """Raw columns and labels of the people that visitors are drawn from."""
    return people_of(rows)


@pytest.fixture
def own_settings(settings: Settings, database_url: str) -> Settings:
    """Settings with an empty database of their own."""
    return settings.model_copy(update={"database_url": database_url})


@pytest.fixture
def watching(own_settings: Settings, artifact: ModelArtifact, people: People) -> Watching:
    return Watching(own_settings, artifact, people)
