"""The shipped model: trained on the real rows with the default settings."""

from __future__ import annotations

from pathlib import Path

from benchmarks.harness.stage import real_rows
from configs.settings import load_settings
from feature_store.definitions.engine import FeatureMatrix
from feature_store.feature_definitions import MODEL_VIEW
from models.artifact.artifact import (
    ModelArtifact,
    example_json,
    json_bytes,
    schema_json,
    write_artifact,
)
from models.families import new_model
from models.onnx.scorer import OnnxScorer
from models.registry.pyfunc import write_pyfunc

TREES = 400


def shipped_artifact(folder: Path) -> tuple[ModelArtifact, FeatureMatrix]:
    """Train on all rows; write the artifact into an empty folder and give it and the rows."""
    settings = load_settings(training={"xgboost": {"n_estimators": TREES}})
    features, labels = real_rows(settings)
    model = new_model(settings.training).fit(features, labels.values)
    model.save(folder)
    onnx, vectors = model.to_onnx(), features.values[:5]
    answers = OnnxScorer(onnx, len(features.schema)).predict(vectors).tolist()
    artifact = write_artifact(
        folder,
        {
            "schema.json": schema_json(features.schema, MODEL_VIEW.entity),
            "config.json": json_bytes({"family": model.family, "threshold": model.threshold}),
            "model.onnx": onnx,
            "example.json": example_json(vectors, answers),
        },
    )
    return artifact, features


def shipped_model(folder: Path) -> tuple[Path, FeatureMatrix]:
    """`shipped_artifact`, with the model that MLflow serves beside its folder; give that one."""
    artifact, features = shipped_artifact(folder)
    pyfunc = folder.with_name("pyfunc")
    pyfunc.mkdir()
    write_pyfunc(pyfunc, artifact, model_id="m-benchmark")
    return pyfunc, features
