"""A world in which models can be served: real stores, real artifacts, a real API process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import httpx

from configs.settings import ROOT, Settings
from feature_store.connect import online_store
from feature_store.definitions.engine import FeatureMatrix
from feature_store.online_store import OnlineStore
from infrastructure.embedded import redis_url
from models.connect import deployment_store, postgres
from models.deployment.ab_tests import override, start_ab_test
from models.deployment.plan import ExperimentPlan
from models.deployment.record import Arm, ArmName, Deployment, deploy
from tests.worlds.artifacts import ArtifactServer, artifact_server
from tests.worlds.databases import own_database, url_for
from tests.worlds.rows import random_matrix

START_LIMIT_S = 60
NOBODY = "http://127.0.0.1:1"


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class World:
    """Stores with users in them, a server of artifacts, and nothing deployed."""

    settings: Settings
    artifacts: ArtifactServer
    online: OnlineStore
    matrix: FeatureMatrix
    api_database_url: str | None = None

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
        """What a process of the pipelines needs to find this world."""
        return {
            "DATABASE_URL": str(self.settings.database_url),
            "REDIS_URL": str(self.settings.redis_url),
            "MLFLOW_TRACKING_URI": str(self.settings.mlflow_tracking_uri),
            "FTI_VAR_DIR": str(self.settings.var_dir),
            "FTI_FEATURE__PROJECT": self.settings.feature.project,
        }

    def api_environment(self) -> dict[str, str]:
        """The same for the API, which has a role of its own in the database."""
        own = self.api_database_url
        return self.environment() | ({"DATABASE_URL": own} if own else {})

    def _record(self, deployment: Deployment) -> Deployment:
        store = deployment_store(self.settings)
        with store.recording(deployment, []):
            pass
        store.close()
        return deployment


@contextmanager
def new_world(settings: Settings, folder: Path) -> Iterator[World]:
    name = f"test{uuid.uuid4().hex[:12]}"
    with own_database(settings) as url, artifact_server(folder / "artifacts") as artifacts:
        own = settings.model_copy(
            update={
                "var_dir": folder / "var",
                "database_url": url,
                "redis_url": redis_url(settings),
                "mlflow_tracking_uri": artifacts.url,
                "feature": settings.feature.model_copy(update={"project": name}),
            }
        )
        online, matrix = online_store(own), random_matrix()
        online.write(matrix, now())
        yield World(own, artifacts, online, matrix, url_for(settings, url, "api"))
        online.client.close()


def keys_setting(**roles: tuple[str, str]) -> str:
    """The setting of keys: name to role and hash."""
    entries = [
        {"name": name, "role": role, "key_sha256": digest} for name, (role, digest) in roles.items()
    ]
    return json.dumps(entries)


def new_host(world: World, folder: Path) -> World:
    """The same stores seen from a host with an empty disk, and no MLflow."""
    away = {"var_dir": folder, "mlflow_tracking_uri": NOBODY}
    return replace(world, settings=world.settings.model_copy(update=away))


def bearer(key: tuple[str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {key[0]}"}


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
            env={**os.environ, **world.api_environment(), **environment},
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
