"""The story of the inference pipeline: models deployed by command, people answered over HTTP."""

from __future__ import annotations

import getpass
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from unittest import mock

import httpx
import psycopg
import pytest

from configs.settings import ROOT, Settings, load_settings
from feature_store.definitions.engine import Engine
from feature_store.feature_definitions import MODEL_VIEW
from infrastructure import embedded
from infrastructure.embedded import mlflow_url, postgres_url
from models.connect import model_registry

BY_USER = {"user_id": 12345}
BY_ATTRIBUTES = {
    "age": 35,
    "workclass": "Private",
    "education": "Bachelors",
    "occupation": "Tech-support",
    "hours-per-week": 40,
}
ANSWER = {
    *("prediction", "probability", "model_version", "latency_ms", "prediction_id", "arm"),
    *("missing", "unseen", "degraded", "degraded_reasons"),
}


@dataclass(frozen=True)
class Checkout:
    """A checkout whose servers, models and receipts are its own."""

    settings: Settings

    def run(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command as it stands in the README."""
        return subprocess.run(
            [sys.executable, *command.split()],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            env={
                **os.environ,
                "FTI_VAR_DIR": str(self.settings.var_dir),
                "FTI_TRAINING__XGBOOST__N_ESTIMATORS": "25",
                # So few trees say too little, and each run differs from the others by more.
                "FTI_TRAINING__GATES__LARGEST_CALIBRATION_ERROR": "0.2",
                "FTI_TRAINING__GATES__LOG_LOSS_MARGIN": "0.05",
                "FTI_TRAINING__GATES__BRIER_MARGIN": "0.05",
                **environment,
            },
        )

    def lines(self, command: str) -> list[str]:
        """What a command prints that must succeed."""
        ended = self.run(command)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.splitlines()

    def deploy(self, options: str) -> tuple[list[str], str]:
        """What a deployment prints, and the endpoint that it names last."""
        lines = self.lines(f"pipelines/deployment.py {options}")
        assert lines[-1].startswith("✓ API endpoint: http://localhost:")
        assert lines[-1].endswith("/predict")
        assert re.match(
            r"  The API at http://localhost:\d+ \(model [\w-]+, .+, project ", lines[-2]
        )
        return lines[:-2], lines[-1].removeprefix("✓ API endpoint: ")

    def stages(self) -> dict[str, str]:
        """The stage of each version, as MLflow shows it."""
        return {v.label: v.stage for v in model_registry(self.settings).versions()}

    def aliases(self) -> dict[str, str]:
        """The aliases of the registered model, as MLflow shows them."""
        answer = httpx.get(
            f"{mlflow_url(self.settings)}/api/2.0/mlflow/registered-models/get",
            params={"name": self.settings.model_name},
        )
        aliases = answer.json()["registered_model"].get("aliases", [])
        return {each["alias"]: each["version"] for each in aliases}

    def row(self, query: str) -> list[tuple[object, ...]]:
        """The rows of a query."""
        with psycopg.connect(postgres_url(self.settings)) as connection:
            return connection.execute(query).fetchall()


def predict(url: str, body: dict[str, object]) -> dict[str, object]:
    answer = httpx.post(url, json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def answering(url: str, users: range = range(1, 201)) -> dict[str, int]:
    """How many users each version answers."""
    counts: dict[str, int] = {}
    for user in users:
        label = str(predict(url, {"user_id": user})["model_version"])
        counts[label] = counts.get(label, 0) + 1
    return counts


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A checkout with features stored and two models registered."""
    settings = load_settings(var_dir=tmp_path_factory.mktemp("checkout") / "var")
    checkout = Checkout(settings)
    checkout.lines("pipelines/feature_pipeline.py --mode batch")
    for seed in (1, 2, 3):
        checkout.lines(f"pipelines/training_pipeline.py --model xgboost --seed {seed}")
    yield checkout
    embedded.delete(settings)


def test_the_story_of_serving(checkout: Checkout) -> None:
    # Nothing is in production yet, so the first version takes all traffic, and says so.
    first = "--model-name income-xgb-v1 --stage production --enable-ab-test"
    lines, url = checkout.deploy(first)
    assert lines == [
        "✓ Model deployed to production",
        "  income-xgb-v1 takes all traffic: there was no champion to test it against",
    ]
    assert checkout.stages()["income-xgb-v1"] == "Production"
    assert checkout.row("SELECT path FROM model_stage_history") == [
        (["None", "Staging", "Production"],)
    ]

    # A known user, and somebody of whom only attributes are known.
    by_user, by_attributes = predict(url, BY_USER), predict(url, BY_ATTRIBUTES)
    for answer in (by_user, by_attributes):
        assert answer.keys() == ANSWER
        assert answer["prediction"] in {"<=50K", ">50K"}
        assert answer["model_version"] == "income-xgb-v1"
        assert answer["degraded"] is False
    assert set(by_attributes["missing"]) == {  # type: ignore[call-overload]
        *("fnlwgt", "marital_status", "relationship", "race", "sex"),
        *("capital_gain", "capital_loss", "native_country"),
    }

    # Where the model comes from, and what each feature added to an answer.
    [arm] = httpx.get(url.replace("/predict", "/model")).json()["arms"]
    lineage = arm["lineage"]
    assert (arm["model_version"], arm["share"], lineage["problem"]) == ("income-xgb-v1", 1.0, None)
    version = model_registry(checkout.settings).find("income-xgb-v1")
    assert lineage["registry"]["git_commit"] == version.tags["git_commit"]
    assert lineage["training"]["dataset_digest"] == version.tags["dataset_digest"]
    assert 0.8 < lineage["metrics"]["roc_auc"] < 1
    explained = httpx.post(url.replace("/predict", "/explain"), json=BY_USER).json()
    added = sum(each["contribution"] for each in explained["contributions"])
    assert explained["base"] + added == pytest.approx(explained["margin"])
    assert explained["probability"] == by_user["probability"]

    # Deploying again changes nothing, and the same API goes on.
    lines, again = checkout.deploy(first)
    assert lines == ["✓ income-xgb-v1 is deployed to production already; nothing changed"]
    assert again == url

    # The second version is tested against the first on a tenth of the users, always the same.
    lines, _ = checkout.deploy("--model-name income-xgb-v2 --stage production --enable-ab-test")
    assert lines == [
        "✓ Model deployed to production",
        "✓ A/B test enabled (10% traffic to new model)",
        "  paired: both models score every request",
    ]
    assert checkout.aliases() == {"production": "1", "challenger": "2"}
    counts = answering(url)
    assert counts == answering(url)
    assert 5 <= counts["income-xgb-v2"] <= 40
    assert counts["income-xgb-v1"] == 200 - counts["income-xgb-v2"]

    # One challenger at a time.
    ended = checkout.run(
        "pipelines/deployment.py --model-name income-xgb-v3 --stage production --enable-ab-test"
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("✗ income-xgb-v2 is under test with 10% of the traffic")

    # A tester always gets the challenger; more people do; nothing has matured yet.
    lines, _ = checkout.deploy("override 12345 --arm challenger")
    assert lines == ["✓ Unit 12345: always the challenger"]
    assert predict(url, BY_USER)["model_version"] == "income-xgb-v2"
    lines, _ = checkout.deploy("ramp")
    assert lines == ["✓ Challenger widened to 25% of the traffic"]
    status = json.loads("\n".join(checkout.lines("pipelines/deployment.py status --json")))
    assert (status["mode"], status["shares"]) == ("paired", [0.1, 0.25])
    assert (status["action"], status["evidence"]["counted"]) == ("continue", 0)
    [line] = checkout.lines("pipelines/deployment.py decide")
    assert re.match(r"✓ The test of income-xgb-v2 goes on: no unit of \d+ has a matured", line)

    # The challenger wins; its users and all others are answered by it.
    lines, _ = checkout.deploy("promote")
    assert lines == ["✓ Challenger promoted: income-xgb-v2 takes all traffic"]
    assert answering(url) == {"income-xgb-v2": 200}
    assert checkout.aliases() == {"production": "2"}
    assert checkout.stages()["income-xgb-v1"] == "Archived"

    ramp, wait, decision = checkout.row(
        "SELECT action, decided_by, champion, challenger, reason FROM experiment_decisions "
        "ORDER BY decision_id"
    )
    assert ramp[:2] == ("ramp", getpass.getuser())
    assert wait[:2] == ("continue", f"controller ({getpass.getuser()})")
    assert decision[:4] == ("promote", getpass.getuser(), "income-xgb-v1", "income-xgb-v2")
    assert str(decision[4]).startswith("by hand, while the evidence says: ")

    # It was a mistake.
    lines, _ = checkout.deploy("rollback --reason regret")
    assert lines == ["✓ Rolled back: income-xgb-v1 takes all traffic"]
    assert answering(url) == {"income-xgb-v1": 200}
    assert checkout.stages() == {
        "income-xgb-v1": "Production",
        "income-xgb-v2": "Archived",
        "income-xgb-v3": "None",
    }
    history = checkout.row("SELECT generation, action, reason FROM deployments ORDER BY 1")
    assert history == [
        (1, "deploy", ""),
        (2, "start_ab_test", ""),
        (3, "override", ""),
        (4, "widen", mock.ANY),
        (5, "promote", mock.ANY),
        (6, "rollback", "regret"),
    ]

    # Every answer has its receipt.
    deadline = time.monotonic() + 10
    while checkout.row("SELECT count(*) FROM predictions") != [(803,)]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    receipt = checkout.row(
        f"SELECT probability, features FROM predictions "
        f"WHERE prediction_id = '{by_attributes['prediction_id']}'"
    )
    vector = Engine(MODEL_VIEW).row({n.replace("-", "_"): v for n, v in BY_ATTRIBUTES.items()})
    assert receipt[0][0] == by_attributes["probability"]
    assert [str(v) for v in receipt[0][1]] == [str(v) for v in vector.astype(float).tolist()]


def test_a_test_can_be_stopped(checkout: Checkout) -> None:
    checkout.deploy("--model-name income-xgb-v3 --stage production --enable-ab-test")
    lines, url = checkout.deploy("rollback")

    assert lines == ["✓ Rolled back: income-xgb-v1 takes all traffic"]
    assert answering(url, range(1, 51)) == {"income-xgb-v1": 50}
    assert "challenger" not in checkout.aliases()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "--model-name income-xgb-v9 --stage production",
            r"There is no model version 'income-xgb-v9'\. Did you mean 'income-xgb-v\d'\? .*",
        ),
        (
            "--model-name income-xgb-v1 --stage prod",
            r"There is no stage 'prod'\. Expected one of: staging, production, archived\.",
        ),
        ("--model-name income-xgb-v1", "--model-name and --stage belong together; give both."),
        ("promote", r"No A/B test is running\. Start one with .*"),
        ("ramp --to 0.5", r"No A/B test is running\. Start one with .*"),
        ("decide --watch 5", r"No A/B test is running\. Start one with .*"),
        ("status", r"No A/B test is running\. Start one with .*"),
        ("override 42", r"No A/B test is running\. Start one with .*"),
        (
            "--model-name income-xgb-v1 --stage production --mode paired",
            "--mode is of a test; give --enable-ab-test or --ramp with it.",
        ),
        (
            "--model-name income-xgb-v1 --stage archived",
            "income-xgb-v1 serves in production and cannot become archived.*",
        ),
    ],
)
def test_what_cannot_be_deployed_is_one_clear_line_and_changes_nothing(
    checkout: Checkout, options: str, message: str
) -> None:
    before = checkout.stages(), checkout.row("SELECT max(generation) FROM deployments")
    ended = checkout.run(f"pipelines/deployment.py {options}")

    assert ended.returncode == 1
    assert re.fullmatch(f"✗ {message}\n", ended.stderr), ended.stderr
    assert ended.stdout == ""
    assert (checkout.stages(), checkout.row("SELECT max(generation) FROM deployments")) == before


def test_a_registry_that_is_gone_is_one_clear_line(checkout: Checkout) -> None:
    command = "pipelines/deployment.py --model-name income-xgb-v1 --stage production"
    started = time.monotonic()
    ended = checkout.run(command, MLFLOW_TRACKING_URI="http://127.0.0.1:1")

    assert ended.returncode == 1
    assert ended.stderr.startswith("✗ MLflow at http://127.0.0.1:1 does not answer (")
    assert ended.stderr.count("\n") == 1
    assert time.monotonic() - started < 15


def test_a_corrupt_artifact_is_refused_before_anything_changes(checkout: Checkout) -> None:
    version = model_registry(checkout.settings).find("income-xgb-v3")
    path = version.artifact_uri.partition(":/")[2]
    model = checkout.settings.var_dir / "mlflow" / path.strip("/") / "model.onnx"
    sound = model.read_bytes()
    for cached in (checkout.settings.var_dir / "models").glob(version.digest):
        (cached / "model.onnx").write_bytes(b"altered")
    model.write_bytes(b"altered")
    before = checkout.stages()

    ended = checkout.run("pipelines/deployment.py --model-name income-xgb-v3 --stage production")
    model.write_bytes(sound)

    assert ended.returncode == 1
    assert re.match(r"✗ income-xgb-v3 cannot be used: .*model\.onnx was altered", ended.stderr)
    assert checkout.stages() == before
