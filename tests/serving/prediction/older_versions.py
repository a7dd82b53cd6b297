"""Older versions of the features, and models of them."""

from __future__ import annotations

from dataclasses import replace

from feature_store import connect, versions
from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.schema import FeatureSchema
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.online_store import OnlineStore
from models.deployment.record import Arm
from models.onnx.scorer import OnnxScorer
from tests.worlds.artifacts import model_files_of
from tests.worlds.serving import World, now

PRESENT = MODEL_VIEW.schema
SMALLER = FeatureSchema(PRESENT.view, PRESENT.features[:-1])
OTHER_RANGE = FeatureSchema(
    PRESENT.view,
    tuple(replace(f, valid_range=(0, 99)) if f.name == "age" else f for f in PRESENT.features),
)


def fill(world: World, schema: FeatureSchema, matrix: FeatureMatrix) -> OnlineStore:
    """Fill a version in both stores, and switch to it."""
    offline = connect.offline_store(world.settings)
    online = connect.online_store(world.settings, schema=schema)
    versions.start_fill(offline, online, MODEL_VIEW.entity)
    offline.append(matrix, MODEL_VIEW.entity, now())
    online.write(matrix, now())
    versions.switch(offline, online, 0)
    return online


def model_of(world: World, version: int, schema: FeatureSchema) -> tuple[Arm, OnnxScorer]:
    files = model_files_of(version, schema)
    world.artifacts.add(version, **{name.replace(".", "_"): c for name, c in files.items()})
    return world.artifacts.arm(version), OnnxScorer(files["model.onnx"], len(schema))
