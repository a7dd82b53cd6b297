"""The story of the training pipeline: one command, a judged model in MLflow, no pickle in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from configs.settings import ROOT, Settings, load_settings
from infrastructure import embedded
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
        env={**os.environ, "FTI_VAR_DIR": str(settings.var_dir), "NO_COLOR": "1"},
    )


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
    ended = command(story, "training_pipeline", *arguments)
    assert ended.returncode == 1
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("\n") == 1
