"""The DAGs in a real Airflow: their structure, each run for real, and the scheduler."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from configs.settings import ROOT, Settings, load_settings
from infrastructure import embedded
from infrastructure.servers import services
from infrastructure.servers.airflow_service import (
    ENVIRONMENT,
    FOLDER,
    ensure_airflow,
    password,
    variables,
)
from infrastructure.servers.processes import descendants
from monitoring.connect import alerts

pytestmark = [
    pytest.mark.full,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(
        not (ENVIRONMENT / "bin" / "airflow").exists(),
        reason="Airflow is not installed: make test-all installs it into .venv-airflow",
    ),
]
QUICK = {
    "FTI_TRAINING__XGBOOST__N_ESTIMATORS": "80",
    "FTI_TRAINING__MASKING__COPIES": "0",
    "FTI_DEPLOYMENT__API__PORT": "8480",
}
POOLS = {"features", "deployments", "predictions", "monitoring"}
PATIENCE_S = 400


@dataclass(frozen=True)
class Airflow:
    """An Airflow with metadata of its own; its tasks work on stores of their own."""

    settings: Settings

    def environment(self) -> dict[str, str]:
        own = {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
        told = variables(self.settings.var_dir, self.database_url)
        return {**os.environ, **told, **QUICK, **own}

    @property
    def database_url(self) -> str:
        return str(embedded.airflow_database_url(self.settings))

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(ENVIRONMENT / "bin" / "airflow"), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=1400,
            env=self.environment(),
        )

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the metadata."""
        with psycopg.connect(self.database_url, options="-csearch_path=airflow") as connection:
            return connection.execute(query).fetchall()


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    settings = load_settings(var_dir=tmp_path_factory.mktemp("airflow") / "var")
    (settings.var_dir / "airflow").mkdir(parents=True)
    airflow = Airflow(settings)
    assert airflow("db", "migrate").returncode == 0
    yield airflow
    embedded.delete(settings)


@pytest.fixture(scope="module")
def structure(airflow: Airflow) -> dict[str, Any]:
    told = subprocess.run(
        [
            str(ENVIRONMENT / "bin" / "python"),
            str(ROOT / "tests" / "infrastructure" / "airflow_structure.py"),
            str(FOLDER / "dags"),
        ],
        capture_output=True,
        text=True,
        check=True,
        env=airflow.environment(),
    )
    found: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
    assert found["errors"] == {}
    return dict(found["dags"])


def test_every_dag_is_there_with_its_tasks_in_order(structure: dict[str, Any]) -> None:
    tasks = {
        name: {task: each["after"] for task, each in dag["tasks"].items()}
        for name, dag in structure.items()
    }
    assert tasks == {
        "features": {"compute": [], "week": ["compute"]},
        "training": {"train": []},
        "batch_inference": {"score": []},
        "monitoring": {"check": [], "request": ["check"]},
        "experiment_controller": {"decide": []},
    }


def test_assets_link_features_to_training_to_batch(structure: dict[str, Any]) -> None:
    outlets = {
        f"{name}.{task}": each["outlets"]
        for name, dag in structure.items()
        for task, each in dag["tasks"].items()
        if each["outlets"]
    }
    assert outlets == {
        "features.compute": ["fti://stores/features"],
        "features.week": ["fti://stores/week_of_features"],
        "training.train": ["fti://registry/model"],
        "batch_inference.score": ["fti://batch/predictions"],
        "monitoring.request": ["fti://monitoring/retrain_request"],
    }
    assert structure["training"]["schedule"] == "AssetTriggeredTimetable"
    assert structure["batch_inference"]["schedule"] == "AssetOrTimeSchedule"


def test_every_task_is_a_command_of_ours_that_ends_is_tried_again_and_tells(
    structure: dict[str, Any],
) -> None:
    for name, dag in structure.items():
        assert (dag["catchup"], dag["runs_at_once"]) == (False, 1), name
        for task, each in dag["tasks"].items():
            assert each["retries"] == 2
            assert each["backs_off"]
            assert 0 < each["limit_s"] <= 3 * 3600
            assert each["alerts"]
            assert not each["xcom"]
            if task != "week":
                assert "pipelines/run.py" in each["command"]
                assert each["cwd"] == str(ROOT)
                assert each["pool"] in POOLS
    assert set(json.loads((FOLDER / "pools.json").read_text())) == POOLS


def test_what_fails_for_good_reaches_the_alert_sinks(airflow: Airflow) -> None:
    call = (
        "from types import SimpleNamespace as Some; from fti_tasks import alert; "
        "alert({'task_instance': Some(dag_id='training', task_id='train'), "
        "'dag_run': Some(run_id='weekly')})"
    )
    python = str(ENVIRONMENT / "bin" / "python")
    environment = airflow.environment() | {"PYTHONPATH": f"{FOLDER / 'dags'}:{ROOT}"}
    told = subprocess.run([python, "-c", call], env=environment, check=True, capture_output=True)
    assert "✓ Told" in told.stdout.decode()
    (sent,) = alerts(airflow.settings).store.alerts(("resolved",))
    assert sent.message == "Airflow: training.train failed in run weekly"
    assert sent.severity == "critical"


@pytest.mark.parametrize(
    "dag", ["features", "training", "batch_inference", "monitoring", "experiment_controller"]
)
def test_a_dag_really_runs(airflow: Airflow, dag: str) -> None:
    ended = airflow("dags", "test", dag, "2023-06-01T02:00:00+00:00")
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    (state,) = airflow.rows(f"SELECT state FROM dag_run WHERE dag_id = '{dag}'")
    assert state == ("success",)
    if dag == "features":
        with psycopg.connect(embedded.postgres_url(airflow.settings)) as connection:
            row = connection.execute("SELECT count(*) FROM labels").fetchone()
        assert row == (48_842,)
    if dag == "batch_inference":
        assert (airflow.settings.var_dir / "batch" / "date=2023-06-01").is_dir()


def test_the_scheduler_sees_assets_trigger_and_a_stop_takes_all_along(airflow: Airflow) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**QUICK, "PYTHONPATH": str(ROOT)}.items():
            patch.setenv(name, value)
        running = ensure_airflow(airflow.settings, airflow.database_url)
    assert len(password(airflow.settings)) >= 8
    for dag in ("training", "batch_inference"):
        assert airflow("dags", "unpause", dag).returncode == 0
    newest = "SELECT count(*) FROM dag_run WHERE run_type = 'asset_triggered' AND dag_id = '{}'"
    before = {
        dag: airflow.rows(newest.format(dag))[0][0] for dag in ("training", "batch_inference")
    }
    assert airflow("dags", "unpause", "features").returncode == 0
    assert airflow("dags", "trigger", "features").returncode == 0
    ended = "SELECT count(*) FROM dag_run WHERE state = 'success' AND run_type = 'asset_triggered' "
    deadline = time.monotonic() + PATIENCE_S
    while airflow.rows(ended + "AND dag_id = 'batch_inference'")[0][0] <= before["batch_inference"]:
        assert time.monotonic() < deadline, airflow.rows(
            "SELECT dag_id, run_id, state FROM dag_run"
        )
        time.sleep(2)
    assert airflow.rows(ended + "AND dag_id = 'training'")[0][0] > before["training"]
    _backfill(airflow, "2023-01-01T00:00:00", "2023-01-01T01:00:00")

    family = descendants(running.pid) | {running.pid}
    assert len(family) >= 4
    services.stop("airflow", airflow.settings)
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists() and _lives(pid)]


def _backfill(airflow: Airflow, first: str, last: str) -> None:
    """Two hours anew, which the stores have already: nothing changes in them."""
    before = _feature_rows(airflow)
    words = ["--dag-id", "features", "--from-date", first, "--to-date", last]
    made = subprocess.run(
        [sys.executable, "-m", "infrastructure", "airflow", "backfill", "create", *words],
        env=airflow.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    found = "SELECT state FROM dag_run WHERE run_type = 'backfill' ORDER BY logical_date"
    deadline = time.monotonic() + PATIENCE_S
    while airflow.rows(found) != [("success",), ("success",)]:
        assert time.monotonic() < deadline, airflow.rows(found)
        time.sleep(2)
    assert _feature_rows(airflow) == before
    logs = (airflow.settings.var_dir / "airflow" / "logs" / "dag_id=features").rglob("*.log")
    assert any("--start 2023-01-01T01:00:00" in log.read_text() for log in logs)


def _feature_rows(airflow: Airflow) -> int:
    with psycopg.connect(embedded.postgres_url(airflow.settings)) as connection:
        [rows] = connection.execute("SELECT count(*) FROM user_features").fetchone() or [0]
    return int(rows)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
