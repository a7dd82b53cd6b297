"""A world in which versions are trained, judged and moved: real PostgreSQL, real MLflow."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np

from configs.settings import ROOT, Settings, load_settings
from configs.training_config import GatesConfig, TrainingConfig
from feature_store.connect import offline_store
from feature_store.definitions.engine import FeatureMatrix
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline_store import Labels, OfflineStore
from feature_store.training_data import TrainingRows, training_rows
from infrastructure.embedded import mlflow_url
from models import connect
from models.deployment.promotion import Promoter
from models.families import new_model
from models.gates.admission import DecisionStore
from models.gates.rules import Decision
from models.lineage import Dataset, Provenance, Recipe
from models.registry.tracking import TrainingRecord, register_run
from models.registry.versions import ModelRegistry, ModelVersion
from models.reports.write_up import write_up
from models.rows.split import Part
from models.training.fit import Trained, fit, held_out_metrics, masker_of, recipe_of, split_of
from tests.worlds.databases import own_database

GATES = GatesConfig(
    log_loss_margin=0.05,
    brier_margin=0.02,
    minimum_rows=100,
    slices=("sex",),
    slice_log_loss_margin=0.05,
    slice_minimum_rows=100,
    largest_calibration_error=0.1,
    largest_latency_ms=1_000,
)
"""For 4,000 rows, of which 800 are held out, on a machine that others use too."""
POOR = {"n_estimators": 2, "learning_rate": 0.05, "max_depth": 1}
"""Parameters of a model that no gate for quality lets pass."""


@dataclass(frozen=True)
class Written:
    """A training, written up, with the rows that were held out from it."""

    record: TrainingRecord
    recipe: Recipe
    rows: TrainingRows
    test: Part


@dataclass
class Trainer:
    """Trains each model once, however many worlds register it."""

    training: TrainingConfig
    folder: Path
    written: dict[object, Written] = field(default_factory=dict)

    def train(
        self, rows: TrainingRows, settings: Mapping[str, object], params: Mapping[str, object]
    ) -> Written:
        """The model of these rows, settings and parameters of trees."""
        key = Dataset.of(rows).digest, *settings.items(), *params.items()
        if key not in self.written:
            family = self.training.xgboost.model_copy(update=dict(params))
            config = self.training.model_copy(update={**settings, "xgboost": family})
            self.written[key] = self._train(rows, config)
        return self.written[key]

    def _train(self, rows: TrainingRows, config: TrainingConfig) -> Written:
        masker = masker_of(MODEL_VIEW, config)
        split = split_of(rows, masker.schema, config)
        model = fit(new_model(config), split, masker, config)
        trained = Trained(model, split, held_out_metrics(model, split.test, masker, config))
        recipe, folder = recipe_of(rows, masker, config), self.folder / str(len(self.written))
        record = write_up(trained, recipe, masker, datetime.now(UTC), folder, config)
        return Written(record, recipe, rows, split.test)


@dataclass
class World:
    """Stores with the first rows of the data, and a registered model of its own."""

    settings: Settings
    trainer: Trainer

    @property
    def offline(self) -> OfflineStore:
        return offline_store(self.settings)

    @cached_property
    def promoter(self) -> Promoter:
        """What moves versions, through the gates."""
        return connect.promoter(self.settings)

    @cached_property
    def decisions(self) -> DecisionStore:
        """What the gates have said."""
        return connect.decision_store(self.settings)

    @property
    def registry(self) -> ModelRegistry:
        return self.promoter.registry

    @property
    def served(self) -> list[str]:
        """The versions that answer requests."""
        current = self.promoter.store.current()
        return [arm.label for arm in current.arms] if current else []

    def close(self) -> None:
        """Close all connections."""
        self.promoter.store.close()
        self.promoter.registry.api.close()
        self.promoter.admission.decisions.close()  # type: ignore[attr-defined]
        self.decisions.close()

    def rows(self, config: TrainingConfig | None = None) -> TrainingRows:
        """What is trained on."""
        config = config or self.settings.training
        times = config.start, config.end
        return training_rows(
            self.offline, MODEL_VIEW.schema, MODEL_VIEW.entity, *times, known_by=config.known_by
        )

    def train(
        self,
        seed: int = 101,
        is_judged: bool = True,
        exclude_protected: bool = False,
        known_by: datetime | None = None,
        **params: object,
    ) -> ModelVersion:
        """Train, judge and register a version as the training pipeline does."""
        started_at = datetime.now(UTC)
        settings = {
            "seed": seed,
            "exclude_protected": exclude_protected,
            "known_by": known_by,
        }
        rows = self.rows(self.settings.training.model_copy(update=settings))
        written = self.trainer.train(rows, settings, params)
        champion = connect.champion_of(self.settings)
        origin = Provenance.here(started_at, champion.label if champion else None)
        decision = connect.gate_runner(self.settings).judge(
            written.record.artifact, written.test, written.rows, champion
        )
        tags = {**written.record.tags, **origin.tags(written.recipe)}
        if is_judged:
            tags |= decision.tags()
        version = register_run(self.registry, replace(written.record, tags=tags))
        if is_judged:
            self.decisions.add(version, decision)
        return self.registry.find(version.label)

    def decision(self, version: ModelVersion) -> Decision:
        """The newest decision about a version."""
        found = self.decisions.newest(version)
        assert found is not None
        return found

    def correct_later(self, n: int) -> None:
        """Store other features and labels for the first rows, as if corrected since."""
        rows, later = self.rows(), datetime.now(UTC) + timedelta(hours=1)
        few = rows.features.rows(np.arange(n))
        values = few.values.copy()
        values[:, few.schema.position("age")] += 1
        corrected = FeatureMatrix(values, few.keys, few.times, few.schema)
        self.offline.append(corrected, MODEL_VIEW.entity, later)
        self.offline.append_labels(Labels(few.keys, 1 - rows.labels[:n], few.times), later)

    def environment(self) -> dict[str, str]:
        """What a process needs to find this world."""
        gates = {
            f"FTI_TRAINING__GATES__{name.upper()}": str(value)
            for name, value in GATES.model_dump().items()
            if name != "slices"
        }
        return {
            **os.environ,
            **gates,
            "FTI_TRAINING__GATES__SLICES": '["sex"]',
            "DATABASE_URL": str(self.settings.database_url),
            "MLFLOW_TRACKING_URI": str(self.settings.mlflow_tracking_uri),
            "MODEL_NAME": self.settings.model_name,
            "FTI_VAR_DIR": str(self.settings.var_dir),
            "NO_COLOR": "1",
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start one of our programs in this world."""
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@contextmanager
def new_world(
    settings: Settings, rows: TrainingRows, trainer: Trainer, folder: Path
) -> Iterator[World]:
    """Make a world with these rows; its tables are dropped at the end."""
    with own_database(settings) as url:
        own = settings.model_copy(
            update={
                "var_dir": folder / "var",
                "database_url": url,
                "mlflow_tracking_uri": mlflow_url(settings),
                "model_name": f"test{uuid.uuid4().hex[:12]}-predictor",
                "training": trainer.training.model_copy(update={"gates": GATES}),
            }
        )
        world, created = World(own, trainer), datetime.now(UTC)
        features = rows.features
        world.offline.append(features, MODEL_VIEW.entity, created)
        world.offline.append_labels(Labels(features.keys, rows.labels, features.times), created)
        try:
            yield world
        finally:
            world.close()


def small_training() -> TrainingConfig:
    """The settings of a training that takes a second."""
    trees = {"n_estimators": 40, "learning_rate": 0.2, "max_depth": 4}
    network = {"epochs": 6, "width": 32, "learning_rate": 0.01, "average_decay": 0.9}
    ensemble = {"folds": 2, "xgboost": trees, "neural_network": network}
    sections = {"xgboost": trees, "neural_network": network, "ensemble": ensemble}
    return load_settings(training={"seed": 101, **sections}).training
