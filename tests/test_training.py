"""The story of the training pipeline: one command, a judged model in MLflow, no pickle in it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient

from configs.settings import ROOT, Settings, load_settings
from feature_store.connect import offline_store
from infrastructure import embedded
from infrastructure.servers import services
from models.connect import model_registry


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a fresh machine whose stores the feature pipeline has filled."""
    settings = load_settings(var_dir=tmp_path_factory.mktemp("training") / "var")
    assert command(settings, "feature_pipeline").returncode == 0
    yield settings
    embedded.delete(settings)


def command(settings: Settings, pipeline: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, f"pipelines/{pipeline}.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
        env=environment(settings),
    )


def environment(settings: Settings) -> dict[str, str]:
    own = {"FTI_VAR_DIR": str(settings.var_dir), "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
    return {**os.environ, "PYTHONPATH": str(ROOT), **own}


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Training settings with which a training takes a moment, and a trial of tuning less."""
    path = tmp_path_factory.mktemp("configs") / "training.yaml"
    text = (ROOT / "configs/training_config.yaml").read_text()
    text = text.replace("n_estimators: 2000", "n_estimators: 15")
    path.write_text(text.replace("rows: 10000", "rows: 600").replace("copies: 2", "copies: 0"))
    return str(path)


def test_one_command_trains_judges_and_registers_a_model(story: Settings, tmp_path: Path) -> None:
    ended = command(
        story, "training_pipeline", "--experiment-name", "income-prediction", "--model", "xgboost"
    )
    assert ended.returncode == 0, ended.stderr
    steps = re.findall(r"^✓ (.*)$", ended.stdout, re.MULTILINE)
    assert steps[:3] == [
        "Retrieved 48,842 rows from feature store",
        "Split: 80% train, 20% test",
        "Training XGBoost model...",
    ]
    assert [step.partition(":")[0] for step in steps[3:]] == [
        "Accuracy",
        "F1 Score",
        "Model registered",
        "MLflow experiment",
    ]

    registry = model_registry(story)
    version = registry.find("income-xgb-v1")
    client = MlflowClient(embedded.mlflow_url(story))  # the stock one
    run = client.get_run(version.run_id)
    assert {"n_samples", "n_features"} <= set(run.data.params)
    assert (run.data.params["n_samples"], run.data.params["n_features"]) == ("48842", "47")
    metrics = run.data.metrics
    assert {"precision", "recall", "pr_auc", "brier", "log_loss"} <= set(metrics)
    assert metrics["accuracy"] > 0.865
    assert metrics["roc_auc"] > 0.925
    assert metrics["f1_score"] > 0.715
    assert metrics["log_loss_request_attributes"] < 0.43
    assert abs(metrics["log_loss_all_missing"] - metrics["log_loss_base_rate"]) < 0.05
    files = [file.path for file in client.list_artifacts(version.run_id)]
    assert {"config.json", "feature_importance.png"} <= {Path(file).name for file in files}

    again = command(story, "training_pipeline", "--reuse")
    assert "Model registered: income-xgb-v1" in again.stdout
    assert [each.label for each in registry.versions()] == ["income-xgb-v1"]
    assert not [path for path in story.var_dir.rglob("*.pkl") if "mlflow" in path.parts]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "forest"), "training.model"),
        (("--start", "2030-01-01", "--end", "2031-01-01"), "No labels in [2030-01-01"),
        (("--start", "2022-01-01", "--end", "2021-01-01"), "the end must be after the start"),
        (("--start", "yesterday"), "is not a date"),
    ],
)
def test_bad_input_is_one_line_and_registers_nothing(
    story: Settings, arguments: tuple[str, ...], message: str
) -> None:
    refused(command(story, "training_pipeline", *arguments), message)


def refused(ended: subprocess.CompletedProcess[str], message: str) -> None:
    """Check that a command ended with one line that says this."""
    assert ended.returncode == 1, ended.stdout
    assert message in ended.stderr
    lines = [line for line in ended.stderr.splitlines() if not line.startswith("Port ")]
    assert len(lines) == 1, ended.stderr  # the other says where a server was started


def test_labels_of_one_class_only_are_one_line(story: Settings) -> None:
    first, last = datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 8, tzinfo=UTC)
    labels = offline_store(story).labels(first, last)
    times = sorted(zip(labels.times.tolist(), labels.values.tolist(), strict=True))
    same = next(place for place, (_, label) in enumerate(times) if label != times[0][1])
    end = (times[same - 1][0] + timedelta(seconds=1)).isoformat()
    ended = command(story, "training_pipeline", "--start", "2020-01-01", "--end", end)
    refused(ended, f"all with label {times[0][1]}")


def test_a_bad_bound_of_a_tuning_space_is_one_line(story: Settings, tmp_path: Path) -> None:
    text = (ROOT / "configs/training_config.yaml").read_text()
    path = tmp_path / "training.yaml"
    path.write_text(text.replace("max_depth: {low: 3, high: 8}", "max_depth: {low: 3, high: 80}"))
    ended = command(story, "training_pipeline", "--tune", "5", "--config", str(path))
    refused(
        ended, "'training.tuning.spaces.xgboost': XGBoost's parameter 'max_depth' has the value"
    )


def test_a_feature_that_the_store_lacks_is_one_line(story: Settings, tmp_path: Path) -> None:
    script = tmp_path / "with_another_feature.py"
    script.write_text(
        "import numpy as np\n"
        "from configs.command_line import run\n"
        "from feature_store.feature_definitions import USER_FEATURES\n"
        "@USER_FEATURES.feature(unit='hours/week', valid_range=(0, 336))\n"
        "def hours_twice(hours_per_week):\n"
        "    'Twice the weekly hours.'\n"
        "    return hours_per_week * np.float32(2)\n"
        "from pipelines.training_pipeline import app\n"
        "run(app)\n"
    )
    ended = subprocess.run(
        [sys.executable, str(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        env=environment(story),
    )
    refused(ended, "hours_twice")


@pytest.mark.full
def test_tuning_is_part_of_the_run_and_the_model_has_the_best_settings(
    story: Settings, quick: str
) -> None:
    options = ("--tune", "4", "--config", quick, "--exclude-protected", "--learning-curve")
    ended = command(story, "training_pipeline", *options)
    assert ended.returncode == 0, ended.stderr
    assert "Tuned: 4 trials" in ended.stdout
    assert "Learning curve: 5 of 5 sizes" in ended.stdout
    [label] = re.findall(r"Model registered: (\S+)", ended.stdout)
    version = model_registry(story).find(label)
    client = MlflowClient(embedded.mlflow_url(story))
    run = client.get_run(version.run_id)
    below = f"tags.`mlflow.parentRunId` = '{version.run_id}'"
    trials = client.search_runs([run.info.experiment_id], below)
    assert len(trials) == 4
    best = min(trials, key=lambda trial: trial.data.metrics["log_loss"])
    assert best.data.params.items() <= run.data.params.items()
    assert run.data.params["exclude_protected"] == "True"
    files = {file.path for file in client.list_artifacts(version.run_id)}
    assert {"model_card.html", "evaluation.json", "shap_summary.png", "tuning_history.png"} <= files
    again = command(story, "training_pipeline", *options[:4], "--exclude-protected", "--reuse")
    assert f"Model registered: {label} (of the same data" in again.stdout, again.stderr


def test_mlflow_killed_in_mid_run_registers_nothing_and_the_next_run_works(
    story: Settings, quick: str
) -> None:
    before = [each.label for each in model_registry(story).versions()]
    running = subprocess.Popen(
        [sys.executable, "pipelines/training_pipeline.py", "--config", quick],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(story),
    )
    assert running.stdout is not None
    while "Training XGBoost model" not in running.stdout.readline():
        assert running.poll() is None
    mlflow = services.find("mlflow", story)
    assert mlflow is not None
    os.killpg(os.getpgid(mlflow.pid), signal.SIGKILL)
    stdout, stderr = running.communicate(timeout=300)
    ended = subprocess.CompletedProcess([], running.returncode, stdout, stderr)
    refused(ended, "does not answer")
    assert "no model was half-registered" in stderr
    assert [each.label for each in model_registry(story).versions()] == before
    again = command(story, "training_pipeline", "--config", quick)
    assert again.returncode == 0, again.stderr
    assert len(model_registry(story).versions()) == len(before) + 1
