"""A small model of real rows that serves simulated visitors, and what watches it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

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
People = tuple[dict[str, np.ndarray], np.ndarray]


def train_artifact(rows: TrainingRows, folder: Path) -> ModelArtifact:
    """Pack a model of some trees with the profile of its training."""
    trees = {"n_estimators": 60, "learning_rate": 0.2, "max_depth": 4}
    training = load_settings(training={"seed": 101, "xgboost": trees}).training
    masker = Masker(MODEL_VIEW)
    split = split_of(rows, masker.schema, training)
    trained = Trained(fit(new_model(training), split, masker, training), split, {})
    return pack(trained, recipe_of(rows, masker, training), masker, folder)


def people_of(rows: TrainingRows) -> People:
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
    people: People
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
