"""What the servers stand on: filled stores, the shipped model, and requests of real people."""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.shipped_model import shipped_model
from benchmarks.harness.stage import servers
from benchmarks.subjects.http_load.process import LOAD_CORE
from configs.settings import Settings
from feature_store.connect import online_store
from feature_store.definitions.engine import FeatureMatrix
from feature_store.feature_definitions import MODEL_VIEW
from models.connect import deployment_store
from models.deployment.record import Arm, deploy
from models.registry.pyfunc import DATA

BODIES = 1_000


@dataclass(frozen=True)
class Stage:
    """Servers with everything in them.

    Parameters
    ----------
    pyfunc
        The model as MLflow serves it; the artifact is inside.
    users, attributes
        Bodies of requests: by user, and with all that is known of a person.
    vectors
        Feature vectors in which nothing is missing, as lists of numbers.
    """

    settings: Settings
    folder: Path
    pyfunc: Path
    features: FeatureMatrix
    users: list[str]
    attributes: list[str]
    vectors: list[list[float]]

    def environment(self, host: str) -> dict[str, str]:
        """What an API needs to find everything, as the only one on a host of this name."""
        var = self.folder / "hosts" / host
        if not var.exists():
            shutil.copytree(self.settings.var_dir / "models", var / "models")
        return {
            "DATABASE_URL": str(self.settings.database_url),
            "REDIS_URL": str(self.settings.redis_url),
            "FTI_VAR_DIR": str(var),
            "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",  # not asked: the model is there
        }

    @property
    def native_model(self) -> Path:
        """The trees as XGBoost keeps them."""
        return self.pyfunc / DATA / "model.ubj"


@contextmanager
def stage() -> Iterator[Stage]:
    """Train the model on all cores, then start the stores on the core of the load."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "artifact").mkdir()
        pyfunc, features = shipped_model(folder / "artifact")
        os.sched_setaffinity(0, {LOAD_CORE})
        with servers() as settings:
            online_store(settings).write(features, datetime.now(UTC))
            _deploy(settings, folder / "artifact")
            yield Stage(
                *(settings, folder, pyfunc, features),
                users=_users(len(features)),
                attributes=_attributes(features),
                vectors=_vectors(features),
            )


def _deploy(settings: Settings, artifact: Path) -> None:
    from models.artifact.artifact import open_artifact

    digest = open_artifact(artifact).digest
    shutil.copytree(artifact, settings.var_dir / "models" / digest)
    arm = Arm("champion", 1, "income-xgb-v1", "mlflow-artifacts:/1/model", digest)
    store = deployment_store(settings)
    with store.recording(deploy(None, arm, datetime.now(UTC)), []):
        pass
    store.close()


def _users(n: int) -> list[str]:
    chance = random.Random(1)
    return [json.dumps({MODEL_VIEW.entity: chance.randint(1, n)}) for _ in range(BODIES)]


def _attributes(features: FeatureMatrix) -> list[str]:
    raw = [feature.name for feature in MODEL_VIEW.raw_features]
    bodies = []
    for vector in features.values[:BODIES]:
        known: dict[str, Any] = features.schema.decode(vector)
        bodies.append(json.dumps({name: known[name] for name in raw if known[name] is not None}))
    return bodies


def _vectors(features: FeatureMatrix) -> list[list[float]]:
    whole = features.values[~np.isnan(features.values).any(axis=1)]
    return [[round(value, 6) for value in row] for row in whole[: BODIES // 4].tolist()]
