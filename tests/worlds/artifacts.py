"""Real, small models as artifacts, and a server that hands them out as MLflow does."""

from __future__ import annotations

import http.server
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import numpy as np

from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.schema import FeatureSchema
from feature_store.feature_definitions import MODEL_VIEW
from models.artifact.artifact import (
    ModelArtifact,
    example_json,
    json_bytes,
    schema_json,
    write_artifact,
)
from models.deployment.record import Arm
from models.onnx.scorer import OnnxScorer
from models.xgboost_model import XGBoostModel
from tests.worlds.rows import random_matrix

ARTIFACTS_PATH = "/api/2.0/mlflow-artifacts/artifacts/"


def under(schema: FeatureSchema, matrix: FeatureMatrix) -> FeatureMatrix:
    """The rows as another version of the view has them."""
    places = [MODEL_VIEW.schema.position(name) for name in schema.names]
    values = np.ascontiguousarray(matrix.values[:, places])
    return FeatureMatrix(values, matrix.keys, matrix.times, schema)


@cache
def model_files(seed: int) -> Mapping[str, bytes]:
    """The files of a real, small model; another seed gives another one."""
    return model_files_of(seed, MODEL_VIEW.schema)


def model_files_of(seed: int, schema: FeatureSchema) -> Mapping[str, bytes]:
    """`model_files` of a model that takes another version of the features."""
    return model_files_on(seed, under(schema, random_matrix(400)))


def model_files_on(seed: int, matrix: FeatureMatrix) -> Mapping[str, bytes]:
    """`model_files` of a model that learned random labels of these rows."""
    labels = np.random.default_rng(seed).integers(0, 2, len(matrix)).astype(np.int8)
    model = XGBoostModel({"n_estimators": 10, "max_depth": 3}, seed=seed).fit(matrix, labels)
    onnx = model.to_onnx()
    vectors = matrix.values[:5]
    probabilities = OnnxScorer(onnx, len(matrix.schema)).predict(vectors).tolist()
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder))
        native = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    return {
        **native,
        "schema.json": schema_json(matrix.schema, MODEL_VIEW.entity),
        "config.json": json_bytes({"family": "xgboost", "label_prefix": "xgb", "threshold": 0.5}),
        "model.onnx": onnx,
        "example.json": example_json(vectors, probabilities),
    }


def scorer(seed: int) -> OnnxScorer:
    """The model of a seed, to compare answers with."""
    return OnnxScorer(model_files(seed)["model.onnx"], len(MODEL_VIEW.schema))


@dataclass
class ArtifactServer:
    """Hands out artifacts as an MLflow server does."""

    folder: Path
    url: str
    requests: list[str] = field(default_factory=list)

    def add(self, version: int, **changes: bytes) -> ModelArtifact:
        """Keep the model whose seed is the version, some files replaced."""
        files = dict(model_files(version)) | {n.replace("_", "."): c for n, c in changes.items()}
        return write_artifact(self.folder / str(version) / "model", files)

    def arm(self, version: int) -> Arm:
        """The arm that serves the version; it is kept here first if it is not yet."""
        folder = self.folder / str(version) / "model"
        artifact = self.add(version) if not folder.exists() else write_artifact(folder, {})
        uri = f"mlflow-artifacts:/{version}/model"
        return Arm("champion", version, f"income-xgb-v{version}", uri, artifact.digest)


@contextmanager
def artifact_server(folder: Path) -> Iterator[ArtifactServer]:
    """Run a server of artifacts."""
    folder.mkdir(parents=True, exist_ok=True)
    served = ArtifactServer(folder, "")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            served.requests.append(path)
            return super().translate_path(path.removeprefix(ARTIFACTS_PATH.rstrip("/")))

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    handler = partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield served
        server.shutdown()
        thread.join()
