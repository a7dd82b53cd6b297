"""A small model of real rows, and a world of simulated visitors in a database of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import pytest

from benchmarks.harness.stage import real_rows
from configs.monitoring_config import IncidentConfig, MonitoringConfig, SimulationConfig
from configs.settings import Settings, load_settings
from feature_store.connect import offline_store
from feature_store.definitions.engine import Engine
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline.postgres import Postgres
from feature_store.training_data import TrainingRows
from infrastructure.embedded import postgres_url
from models.artifact.artifact import ModelArtifact
from models.connect import postgres
from models.deployment.record import Arm, Deployment
from models.families import new_model
from models.reports.write_up import pack
from models.rows.masking import Masker
from models.training.fit import Trained, fit, recipe_of, split_of
from monitoring.checks.data_quality import Lags
from monitoring.checks.serving_models import ServingModels
from monitoring.checks.skew_audit import SkewAudit
from monitoring.passes.run import Monitor
from monitoring.simulation.simulation import Simulation
from monitoring.simulation.world import World

START = datetime(2026, 3, 2, tzinfo=UTC)
LABEL = "income-xgb-v1"


@pytest.fixture(scope="session")
def rows() -> TrainingRows:
    matrix, labels = real_rows(load_settings(), 12_000)
    return TrainingRows(matrix, labels.values)


@pytest.fixture(scope="session")
def artifact(rows: TrainingRows, tmp_path_factory: pytest.TempPathFactory) -> ModelArtifact:
    """A model of some trees, packed with the profile of its training."""
    trees = {"n_estimators": 60, "learning_rate": 0.2, "max_depth": 4}
    training = load_settings(training={"seed": 101, "xgboost": trees}).training
    masker = Masker(MODEL_VIEW)
    split = split_of(rows, masker.schema, training)
    trained = Trained(fit(new_model(training), split, masker, training), split, {})
    folder = tmp_path_factory.mktemp("model") / "artifact"
    return pack(trained, recipe_of(rows, masker, training), masker, folder)


@pytest.fixture
def own_settings(settings: Settings, database_url: str) -> Settings:
    """Settings with an empty database of their own."""
    return settings.model_copy(update={"database_url": database_url})


@dataclass
class OneArtifact:
    """Gives the same artifact whatever is asked for."""

    artifact: ModelArtifact

    def get(self, uri: str, digest: str) -> ModelArtifact:
        return self.artifact


@dataclass
class Watching:
    """A world, what serves in it, and what watches it."""

    settings: Settings
    artifact: ModelArtifact
    people: tuple[dict, np.ndarray]
    config: MonitoringConfig = field(default_factory=lambda: load_settings().monitoring)

    @property
    def deployment(self) -> Deployment:
        arm = Arm("champion", 1, LABEL, "", self.artifact.digest)
        return Deployment(1, (arm,), "", None, "deploy", "", START)

    @property
    def serving(self) -> ServingModels:
        schema = self.artifact.feature_schema
        roles, schemas = {LABEL: "champion"}, {schema.fingerprint: schema}
        return ServingModels("income-predictor", LABEL, self.artifact, roles, schemas)

    def world(self, *incidents: dict, **changes: float) -> World:
        config = SimulationConfig(
            **{"visits_a_day": 600, "incidents": [IncidentConfig(**i) for i in incidents]} | changes
        )
        raw, labels = self.people
        return World(config, Engine(MODEL_VIEW), raw, labels, START)

    def simulation(self, *incidents: dict, **changes: float) -> Simulation:
        return Simulation(
            self.world(*incidents, **changes),
            offline_store(self.settings),
            postgres(self.settings),
            lambda: self.deployment,
            OneArtifact(self.artifact),
        )

    @property
    def audit(self) -> SkewAudit:
        return SkewAudit(offline_store(self.settings), Engine(MODEL_VIEW), None)

    def monitor(self, serving: ServingModels | None = None, lags: Lags = Lags()) -> Monitor:  # noqa: B008
        return Monitor(
            self.config,
            Postgres(postgres_url(self.settings)),
            self.audit,
            lambda: serving or self.serving,
            lambda: lags,
        )


@pytest.fixture(scope="session")
def people(rows: TrainingRows) -> tuple[dict, np.ndarray]:
    """Raw columns and labels of the people that visitors are drawn from."""
    engine = Engine(MODEL_VIEW)
    columns = {
        feature.name: np.ascontiguousarray(rows.features.values[:, place])
        for place, feature in enumerate(engine.schema.features)
        if feature.is_raw
    }
    for feature in engine.raw:
        if feature.kind == "category":
            columns[feature.name] = columns[feature.name].astype(np.int64)
    return columns, rows.labels


@pytest.fixture
def watching(own_settings: Settings, artifact: ModelArtifact, people) -> Watching:
    return Watching(own_settings, artifact, people)
