"""The main job as the README tells it: every command word for word, then the demo twice."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.settings import ROOT, load_settings
from infrastructure import embedded

FEATURES = "python pipelines/feature_pipeline.py --config configs/feature_config.yaml --mode batch"
TRAINING = (
    "python pipelines/training_pipeline.py --experiment-name income-prediction --model xgboost"
)
DEPLOYMENT = (
    "python pipelines/deployment.py --model-name income-xgb-v1 --stage production --enable-ab-test"
)
SECOND_DEPLOYMENT = DEPLOYMENT.replace("v1", "v2")
BATCH = "python pipelines/inference_pipeline.py"
BY_USER = '{"user_id": 12345}'
BY_ATTRIBUTES = (
    '{"age": 35, "workclass": "Private", "education": "Bachelors", '
    '"occupation": "Tech-support", "hours-per-week": 40}'
)


@pytest.fixture(scope="module")
def var_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A fresh machine's ``var``; everything that was started in it is stopped at the end."""
    folder = tmp_path_factory.mktemp("story") / "var"
    yield folder
    embedded.delete(load_settings(var_dir=folder))


def run(command: str, var_dir: Path) -> str:
    """What a command prints that must end well."""
    ended = ended_as(command, var_dir)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout


def ended_as(command: str, var_dir: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as a person does, in a shell with the environment activated."""
    binaries = str(Path(sys.executable).parent)
    return subprocess.run(
        command,
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
        env={
            **os.environ,
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "FTI_VAR_DIR": str(var_dir),
            "NO_COLOR": "1",
        },
    )


def steps(printed: str) -> list[str]:
    """Finished steps without their seconds."""
    lines = re.findall(r"^✓ (.*)$", printed, re.MULTILINE)
    return [re.sub(r" \([\d.]+ s\)$", "", line) for line in lines]


def ask(endpoint: str, body: str, var_dir: Path) -> str:
    return run(
        f"curl -sS -X POST {endpoint} -H 'Content-Type: application/json' -d {shlex.quote(body)}",
        var_dir,
    )


def test_the_commands_of_the_readme_work_word_for_word(var_dir: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    assert all(command in readme for command in (FEATURES, TRAINING, DEPLOYMENT, BATCH))
    assert all(body in readme for body in (BY_USER, BY_ATTRIBUTES))

    assert steps(run(FEATURES, var_dir)) == [
        "Loaded 48,842 rows",
        "Engineered 47 features",
        "Validated 47/47 features",
        "Written to offline store (PostgreSQL)",
        "Synced to online store (Redis)",
    ]

    trained = steps(run(TRAINING, var_dir))
    assert trained[:3] == [
        "Retrieved 48,842 rows from feature store",
        "Split: 80% train, 20% test",
        "Training XGBoost model...",
    ]
    accuracy, f1_score, registered, tracking = trained[3:]
    assert float(accuracy.removeprefix("Accuracy: ")) > 0.86
    assert float(f1_score.removeprefix("F1 Score: ")) > 0.70
    assert registered == "Model registered: income-xgb-v1"
    assert tracking.startswith("MLflow experiment: http://localhost:")

    deployed = steps(run(DEPLOYMENT, var_dir))
    assert deployed[0] == "Model deployed to production"
    assert deployed[-1].startswith("API endpoint: http://localhost:")
    endpoint = deployed[-1].removeprefix("API endpoint: ")
    for body in (BY_USER, BY_ATTRIBUTES):
        answer = ask(endpoint, body, var_dir)
        assert '"model_version":"income-xgb-v1"' in answer.replace(" ", "")
        assert re.search(r'"prediction": ?"(<=50K|>50K)"', answer)

    assert "Scored 48,842 rows at" in run(BATCH, var_dir)
    unknown = ended_as(f"{BATCH} --model-version income-xgb-v99", var_dir)
    assert (unknown.returncode, unknown.stderr.count("\n")) == (1, 1)
    assert "income-xgb-v99" in unknown.stderr


def test_the_demo_uses_what_is_there(var_dir: Path) -> None:
    printed = run("python -m pipelines.demo", var_dir)
    assert "0 rows are new or changed, 48,842 were stored already" in printed
    assert "income-xgb-v1" in printed
    assert "income-xgb-v2" not in printed
    assert printed.count('"prediction"') >= 2
    assert "make down" in printed


def test_a_second_model_gets_a_tenth_of_the_traffic(var_dir: Path) -> None:
    assert "Model registered: income-xgb-v2" in run(f"{TRAINING} --seed 8", var_dir)
    deployed = steps(run(SECOND_DEPLOYMENT, var_dir))
    assert deployed[:2] == [
        "Model deployed to production",
        "A/B test enabled (10% traffic to new model)",
    ]
    endpoint = deployed[-1].removeprefix("API endpoint: ")
    answers = [ask(endpoint, f'{{"user_id": {user}}}', var_dir) for user in range(1, 80)]
    newer = sum("income-xgb-v2" in answer for answer in answers)
    assert 0 < newer < 25
    again = [ask(endpoint, f'{{"user_id": {user}}}', var_dir) for user in range(1, 80)]
    assert ["v2" in a for a in again] == ["v2" in a for a in answers]
