"""A world in which models can be served: real stores, real artifacts, a real API process."""

from __future__ import annotations

import http.server
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

import httpx
import numpy as np

from configs.settings import ROOT, Settings
from feature_store.definitions.engine import Engine, FeatureMatrix
from feature_store.definitions.schema import FIRST_KNOWN, FeatureSchema
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.online_store import OnlineStore
from models.artifact.artifact import (
    ModelArtifact,
    example_json,
    json_bytes,
    schema_json,
    write_artifact,
)
from models.connect import deployment_store, postgres
from models.deployment.ab_tests import override, start_ab_test
from models.deployment.plan import ExperimentPlan
from models.deployment.record import Arm, ArmName, Deployment, deploy
from models.onnx.scorer import OnnxScorer
from models.xgboost_model import XGBoostModel
from tests.parity.test_one_row_equals_a_table import random_columns

ENGINE = Engine(MODEL_VIEW)
USERS = 300
ARTIFACTS_PATH = "/api/2.0/mlflow-artifacts/artifacts/"
START_LIMIT_S = 60


def now() -> datetime:
    return datetime.now(UTC)


def random_matrix(n: int = USERS) -> FeatureMatrix:
    """Features of random users 1…n, some values missing or unseen."""
    keys = np.arange(1, n + 1, dtype=np.int64)
    times = np.datetime64("2026-01-01", "us") + keys * np.timedelta64(1, "m")
    return FeatureMatrix(ENGINE.table(random_columns(n)), keys, times, MODEL_VIEW.schema)


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
    matrix = under(schema, random_matrix(400))
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


@dataclass
class World:
    """Stores with users in them, a server of artifacts, and nothing deployed."""

    settings: Settings
    artifacts: ArtifactServer
    online: OnlineStore
    matrix: FeatureMatrix

    def deploy(self, version: int) -> Deployment:
        """Give all traffic to a version."""
        return self.deploy_arm(self.artifacts.arm(version))

    def deploy_arm(self, arm: Arm) -> Deployment:
        """Give all traffic to an arm, whatever its artifact is like."""
        return self._record(deploy(self.current(), arm, now()))

    def start_ab_test(
        self, version: int, share: float, plan: ExperimentPlan | None = None
    ) -> Deployment:
        """Give a share of the traffic to a version."""
        champion = self.current()
        assert champion is not None
        arm = self.artifacts.arm(version)
        return self._record(start_ab_test(champion, arm, share, "salt", now(), plan=plan))

    def override(self, unit: str, arm: ArmName) -> Deployment:
        """Let a unit always have an arm."""
        current = self.current()
        assert current is not None
        return self._record(override(current, unit, arm, now()))

    def current(self) -> Deployment | None:
        """What is deployed."""
        store = deployment_store(self.settings)
        try:
            return store.current()
        finally:
            store.close()

    def stored_predictions(self) -> list[dict[str, object]]:
        """The receipts in PostgreSQL, in the order of their ids."""
        from psycopg.rows import dict_row

        with (
            postgres(self.settings)() as connection,
            connection.cursor(row_factory=dict_row) as cursor,
        ):
            return cursor.execute("SELECT * FROM predictions ORDER BY prediction_id").fetchall()

    def environment(self) -> dict[str, str]:
        """What a process needs to find this world."""
        return {
            "DATABASE_URL": str(self.settings.database_url),
            "REDIS_URL": str(self.settings.redis_url),
            "MLFLOW_TRACKING_URI": str(self.settings.mlflow_tracking_uri),
            "FTI_VAR_DIR": str(self.settings.var_dir),
            "FTI_FEATURE__PROJECT": self.settings.feature.project,
        }

    def _record(self, deployment: Deployment) -> Deployment:
        store = deployment_store(self.settings)
        with store.recording(deployment, []):
            pass
        store.close()
        return deployment


class Api(httpx.Client):
    """A client of a running API, with its process."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log_path: Path) -> None:
        super().__init__(base_url=url, timeout=10)
        self.process = process
        self.log_path = log_path

    def log_lines(self) -> list[dict[str, str]]:
        """What the process has logged so far."""
        lines = self.log_path.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def until(self, path: str, is_so: object) -> httpx.Response:
        """Ask until the answer is as wished, a few seconds at most."""
        deadline = time.monotonic() + START_LIMIT_S
        while not is_so(answer := self.get(path)):  # type: ignore[operator]
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.02)
        return answer

    def until_generation(self, generation: int) -> None:
        """Wait until a deployment is live."""
        self.until("/ready", lambda answer: answer.json().get("generation") == generation)


@contextmanager
def running_api(
    world: World,
    *flags: str,
    port: int = 0,
    limit_file_bytes: int | None = None,
    **environment: str,
) -> Iterator[Api]:
    """Run the API as people do, on a free port unless one is given."""
    command = [sys.executable, "-m", "serving", "--port", str(port), *flags]
    if limit_file_bytes is not None:
        limit = f'ulimit -f {limit_file_bytes // 1024}; exec "$0" "$@"'
        command = ["bash", "-c", limit, *command]
    log_path = world.settings.var_dir / f"api-{time.monotonic_ns()}.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **world.environment(), **environment},
            stdout=log,
            stderr=log,
        )
    try:
        with Api(process, _url(process, log_path), log_path) as api:
            yield api
    finally:
        process.terminate()
        process.wait(START_LIMIT_S)


def _url(process: subprocess.Popen[bytes], log_path: Path) -> str:
    """Wait until the API answers; find the port that it chose in its log."""
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        for line in log_path.read_text().splitlines():
            if "API on " in line:
                url = line.partition("API on ")[2].partition("/predict")[0]
                try:
                    httpx.get(f"{url}/health", timeout=5)
                except httpx.TransportError:
                    break
                return url
        time.sleep(0.02)
    raise AssertionError(f"The API did not start:\n{log_path.read_text()}")


def missing_in(vector: np.ndarray) -> list[str]:
    """Names of the raw columns that are missing or unseen in a vector ``(p,)``, one by one."""
    schema = MODEL_VIEW.schema
    return [
        feature.name
        for feature, value in zip(schema.features, vector.tolist(), strict=True)
        if not feature.inputs
        and (math.isnan(value) or (feature.kind == "category" and value < FIRST_KNOWN))
    ]
