"""Rows of the real data, and small models trained on them, for the tests of this room."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from configs.settings import Settings
from configs.training_config import TrainingConfig
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.training_data import TrainingRows
from infrastructure.embedded import mlflow_url
from models.families import new_model
from models.lineage import Recipe
from models.registry.tracking import TrainingRecord
from models.reports.write_up import write_up
from models.rows.masking import Masker
from models.rows.split import Split, split_rows
from models.training.fit import Trained, fit, held_out_metrics
from tests.worlds.models import Trainer, World, new_world, small_training
from tests.worlds.rows import first_rows


@pytest.fixture(scope="session")
def rows() -> TrainingRows:
    return first_rows(4_000)


@pytest.fixture(scope="session")
def training() -> TrainingConfig:
    return small_training()


@pytest.fixture(scope="session")
def masker() -> Masker:
    return Masker(MODEL_VIEW)


@pytest.fixture(scope="session")
def split(rows: TrainingRows) -> Split:
    return split_rows(rows.features, rows.labels, test_share=0.2, validation_share=0.1, seed=101)


@pytest.fixture(scope="session")
def trained(split: Split, masker: Masker, training: TrainingConfig) -> Trained:
    model = fit(new_model(training), split, masker, training)
    return Trained(model, split, held_out_metrics(model, split.test, masker, training))


@pytest.fixture(scope="session")
def record(
    rows: TrainingRows,
    trained: Trained,
    masker: Masker,
    training: TrainingConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> TrainingRecord:
    """A training, written up."""
    started_at = datetime(2026, 1, 1, tzinfo=UTC)
    folder: Path = tmp_path_factory.mktemp("record")
    recipe = Recipe.of(rows, training)
    return write_up(trained, recipe, masker, started_at, folder, training)


@pytest.fixture(scope="session")
def tracking_url(settings: Settings) -> str:
    """A real MLflow server."""
    return mlflow_url(settings)


@pytest.fixture(scope="session")
def trainer(training: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    return Trainer(training, tmp_path_factory.mktemp("trained"))


@pytest.fixture
def world(
    settings: Settings, rows: TrainingRows, trainer: Trainer, tmp_path: Path
) -> Iterator[World]:
    """A world of this test's own, in which nothing is registered."""
    with new_world(settings, rows, trainer, tmp_path) as world:
        yield world


@pytest.fixture(scope="module")
def shared_world(
    settings: Settings,
    rows: TrainingRows,
    trainer: Trainer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    """A world for all tests of a module."""
    with new_world(settings, rows, trainer, tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)
