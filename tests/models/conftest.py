"""Rows of the real data, and small models trained on them, for the tests of this room."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from configs.settings import ROOT, Settings, TrainingConfig, load_settings
from feature_store import ingest
from feature_store.engine import Engine
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.sources.files import read_rows
from feature_store.training_data import TrainingRows
from infrastructure.embedded import mlflow_url
from models.families import new_model
from models.lineage import Recipe
from models.masking import Masker
from models.split import Split, split_rows
from models.tracking import TrainingRecord
from models.training import Trained, fit, judge, write_up

N_ROWS = 4_000


@pytest.fixture(scope="session")
def rows() -> TrainingRows:
    """The first rows of the raw file, as the offline store would give them."""
    config = load_settings().feature
    raw = ingest.parse(
        list(islice(read_rows(config.source, ROOT), N_ROWS)),
        MODEL_VIEW,
        config.source,
        config.event_time,
    )
    return TrainingRows(ingest.engineer(raw, Engine(MODEL_VIEW)), raw.labels)


@pytest.fixture(scope="session")
def masker() -> Masker:
    return Masker(MODEL_VIEW)


@pytest.fixture(scope="session")
def training() -> TrainingConfig:
    """The settings of a training that takes a second."""
    params = {"n_estimators": 40, "learning_rate": 0.2, "max_depth": 4}
    return load_settings(training={"seed": 101, "xgboost": params}).training


@pytest.fixture(scope="session")
def split(rows: TrainingRows) -> Split:
    return split_rows(rows.features, rows.labels, test_share=0.2, validation_share=0.1, seed=101)


@pytest.fixture(scope="session")
def trained(split: Split, masker: Masker, training: TrainingConfig) -> Trained:
    model = fit(new_model(training), split, masker, training)
    return Trained(model, split, judge(model, split.test, masker, training))


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


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)
