"""All pipelines in order by one command, and the parts that schedules run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from configs.settings import ROOT, Settings, load_settings
from infrastructure import embedded
from models.connect import deployment_store, model_registry
from monitoring.connect import retraining_store
from pipelines.run import challenge_blocker

QUICK = {
    "FTI_TRAINING__XGBOOST__N_ESTIMATORS": "80",
    "FTI_TRAINING__MASKING__COPIES": "0",
    "FTI_DEPLOYMENT__API__PORT": "8470",
}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a machine on which nothing has run yet."""
    settings = load_settings(var_dir=tmp_path_factory.mktemp("run") / "var")
    yield settings
    embedded.delete(settings)


def run(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    own = {"FTI_VAR_DIR": str(settings.var_dir), "NO_COLOR": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "pipelines/run.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
        env={**os.environ, **QUICK, **own},
    )


@pytest.fixture(scope="module")
def first(fresh: Settings) -> subprocess.CompletedProcess[str]:
    """What the first run of everything has told."""
    ended = run(fresh, "all")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended


def counts(settings: Settings) -> dict[str, int]:
    """How much there is of everything that a second run must not double."""
    tables = ("labels", "deployments", "model_gate_decisions")
    with psycopg.connect(embedded.postgres_url(settings)) as connection:
        found = {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # type: ignore[index]
            for table in tables
        }
    return found | {"versions": len(model_registry(settings).versions())}


def test_all_runs_every_pipeline_in_order_and_a_second_run_doubles_nothing(
    fresh: Settings, first: subprocess.CompletedProcess[str]
) -> None:
    commands = [line.split()[2] for line in first.stdout.splitlines() if line.startswith("$ ")]
    assert [command.removesuffix(".py") for command in commands] == [
        "pipelines/feature_pipeline",
        "pipelines/training_pipeline",
        "pipelines/deployment",
        "pipelines/inference_pipeline",
        "pipelines/monitoring_pipeline",
    ]
    before = counts(fresh)
    assert before == {
        "labels": 48_842,
        "deployments": 1,
        "model_gate_decisions": 1,
        "versions": 1,
    }
    again = run(fresh, "training")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "income-xgb-v1 is not deployed: it is the champion already" in again.stdout
    assert counts(fresh) == before


@pytest.mark.usefixtures("first")
def test_a_batch_as_of_a_time_replaces_the_folder_of_its_day(fresh: Settings) -> None:
    for _ in range(2):
        ended = run(fresh, "batch", "--as-of", "2022-06-01T00:00:00+00:00")
        assert ended.returncode == 0, ended.stdout + ended.stderr
    days = {path.name for path in (fresh.var_dir / "batch").iterdir() if path.is_dir()}
    assert "date=2022-06-01" in days
    manifests = list((fresh.var_dir / "batch" / "date=2022-06-01").glob("*.json"))
    assert len(manifests) == 1
    assert 0 < json.loads(manifests[0].read_text())["rows"] < 48_842


def test_without_a_test_or_a_request_there_is_nothing_to_do(fresh: Settings) -> None:
    experiment = run(fresh, "experiment")
    assert (experiment.returncode, experiment.stdout) == (0, "✓ No A/B test is running\n")
    asked = run(fresh, "requested", "--else-exit", "99")
    assert (asked.returncode, asked.stdout) == (99, "✓ No retraining is asked for\n")


@pytest.mark.full
@pytest.mark.usefixtures("first")
def test_a_request_of_monitoring_is_what_training_carries_out(fresh: Settings) -> None:
    asked = run(fresh, "retrain", "--reason", "the world has changed")
    assert asked.returncode == 0, asked.stdout + asked.stderr
    (request,) = retraining_store(fresh).requests()
    assert request.reason == "the world has changed"
    with closing(deployment_store(fresh)) as store:
        current = store.current()
    assert current is not None
    assert request.label is not None
    other = model_registry(fresh).find(request.label)
    challenger = current.challenger
    assert (challenger and challenger.label) == (
        other.label if request.status == "experiment" else None
    )


def test_a_half_given_range_is_refused_in_one_line(fresh: Settings) -> None:
    ended = run(fresh, "features", "--start", "2023-01-01")
    assert ended.returncode == 1
    assert ended.stderr == "✗ --start and --end belong together; give both, or neither.\n"


@pytest.mark.usefixtures("first")
def test_the_champion_is_not_entered_against_itself(fresh: Settings) -> None:
    assert challenge_blocker(fresh, "income-xgb-v1") == "it is the champion already"
