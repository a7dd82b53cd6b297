"""The API as a process: what it loads, how it starts, swaps, degrades, dies and comes back."""

import os
import re
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from configs.settings import ROOT
from tests.worlds.artifacts import scorer
from tests.worlds.rows import ENGINE
from tests.worlds.serving import running_api

HEAVY = (
    *(
        "catboost",
        "evidently",
        "fairlearn",
        "feast",
        "jax",
        "lightgbm",
        "mlflow",
        "optuna",
        "pandas",
    ),
    *("polars", "pyarrow", "sklearn", "xgboost"),
)
FIVE = {"age": 35, "workclass": "Private", "education": "Bachelors", "hours-per-week": 40}


def expected(version: int, vector: np.ndarray) -> float:
    return float(scorer(version).predict(vector[np.newaxis, :])[0])


def test_a_worker_loads_nothing_heavy(world):
    world.deploy(1)
    # Python itself lists every module that this very process imports.
    with running_api(world, PYTHONPROFILEIMPORTTIME="1") as api:
        for body in ({"user_id": 1}, FIVE, {"user_id": 1, "age": 30}, {"user_id": 999_999}, {}):
            api.post("/predict", json=body)
        receipt = (
            f"/predictions/{api.post('/predict', json={'user_id': 1}).json()['prediction_id']}"
        )
        api.post("/predict/batch", json={"rows": [{"user_id": 1}, FIVE]})
        api.post("/feedback", json={"user_id": 1, "label_time": "2026-01-01T00:00:00Z", "label": 1})
        for path in ("/explain", f"{receipt}/replay", f"{receipt}/explain"):
            assert api.post(path, json={"user_id": 1}).status_code == 200
        for path in ("/model", "/features/1", receipt):
            assert api.get(path).status_code == 200
        for path in ("/health", "/ready", "/metrics", "/docs", "/openapi.json"):
            api.get(path)
        time.sleep(0.5)
    lines = re.findall(r"^import time:.*\| +(\S+)$", api.log_path.read_text(), re.MULTILINE)
    packages = {name.partition(".")[0] for name in lines}

    assert {"fastapi", "onnxruntime", "hiredis", "psycopg"} <= packages
    assert packages & {*HEAVY, "tests"} == set()


def test_without_a_deployment_it_lives_and_says_what_to_run(world):
    with running_api(world) as api:
        assert api.get("/health").status_code == 200
        for answer in (api.get("/ready"), api.post("/predict", json={"user_id": 1})):
            assert answer.status_code == 503
            assert "python pipelines/deployment.py --model-name LABEL" in answer.json()["error"]

        world.deploy(1)
        api.until_generation(1)
        assert api.post("/predict", json={"user_id": 1}).status_code == 200


def test_an_ab_test_is_sticky_and_keeps_its_share(world):
    world.deploy(1)
    world.start_ab_test(2, share=0.3)
    with running_api(world) as api:

        def arm_of(**body: object) -> str:
            answer = api.post("/predict", json=body).json()
            assert answer["model_version"] == f"income-xgb-v{1 + (answer['arm'] == 'challenger')}"
            return answer["arm"]

        arms = [arm_of(user_id=user) for user in range(1, 301)]
        assert [arm_of(user_id=user) for user in range(1, 301)] == arms
        assert arms.count("challenger") / 300 == pytest.approx(0.3, abs=0.08)
        assert [arm_of(**FIVE, unit_id=str(user)) for user in range(1, 31)] == arms[:30]
        assert {arm_of(**FIVE) for _ in range(60)} == {"champion", "challenger"}


def test_an_altered_model_is_not_served_and_the_old_one_stays(world):
    world.deploy(1)
    with running_api(world) as api:
        world.artifacts.arm(2)
        deployment = world.deploy(2)
        deployed = world.artifacts.folder / "3" / "model"
        world.artifacts.add(3)
        arm = world.artifacts.arm(3)
        (deployed / "model.onnx").write_bytes(b"altered" * 1000)
        api.until_generation(deployment.generation)
        world.deploy_arm(arm)
        deadline = time.monotonic() + 5
        while not any("was altered" in line["message"] for line in api.log_lines()):
            assert time.monotonic() < deadline
            time.sleep(0.05)

        assert api.post("/predict", json=FIVE).json()["model_version"] == "income-xgb-v2"


def test_it_starts_from_its_own_disk_when_everything_else_is_gone(world):
    world.deploy(1)
    with running_api(world):
        pass
    gone = {
        "DATABASE_URL": "postgresql://127.0.0.1:1/gone",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
        "REDIS_URL": "redis://127.0.0.1:1",
    }
    with running_api(world, **gone) as api:
        assert api.get("/ready").status_code == 200
        by_attributes = api.post("/predict", json=FIVE).json()
        by_user = api.post("/predict", json={"user_id": 1}).json()
        time.sleep(5)
        later = api.post("/predict", json=FIVE).json()

    attributes = {name.replace("-", "_"): value for name, value in FIVE.items()}
    assert by_attributes["probability"] == expected(1, ENGINE.row(attributes))
    assert by_user["degraded_reasons"] == ["features_unavailable"]
    assert by_user["probability"] == expected(1, ENGINE.row({}))
    assert later["degraded_reasons"] == ["deployment_unconfirmed"]
    assert world.stored_predictions() == []
    with running_api(world) as api:  # what was spooled meanwhile is shipped
        ids = {by_attributes["prediction_id"], by_user["prediction_id"], later["prediction_id"]}
        deadline = time.monotonic() + 10
        while {str(row["prediction_id"]) for row in world.stored_predictions()} != ids:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_told_to_stop_it_finishes_what_it_began_and_ships_the_rest(world):
    world.deploy(1)
    with running_api(world, FTI_MONITORING__PREDICTION_LOG__SHIP_INTERVAL_MS="3600000") as api:
        answer = api.post("/predict", json={"user_id": 7}).json()
        assert world.stored_predictions() == []
        api.process.terminate()
        assert api.process.wait(10) == 0

    assert [str(r["prediction_id"]) for r in world.stored_predictions()] == [
        answer["prediction_id"]
    ]
    assert not (world.settings.var_dir / "serving" / "api.json").exists()


def test_without_room_for_receipts_it_answers_503_and_recovers(world):
    world.deploy(1)
    folder = world.settings.var_dir / "predictions"
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("in the way")
    with running_api(world) as api:
        answer = api.post("/predict", json={"user_id": 7})
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert "The prediction log cannot be written: File exists" in answer.json()["error"]
        assert api.get("/ready").status_code == 503
        assert api.get("/health").status_code == 200

        folder.unlink()
        assert api.post("/predict", json={"user_id": 7}).status_code == 200
        assert api.get("/ready").status_code == 200


def test_a_full_disk_answers_503(world):
    world.deploy(1)
    # Files may not grow beyond 1 MB: reserving a segment of 16 MB fails as on a full disk.
    with running_api(world, limit_file_bytes=1_000_000) as api:
        answer = api.post("/predict", json={"user_id": 7})

        assert answer.status_code == 503
        assert "The prediction log cannot be written" in answer.json()["error"]


def start(world, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "serving", *arguments],
        cwd=ROOT,
        env={**os.environ, **world.api_environment()},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )


def test_a_taken_port_is_one_clear_line(world):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = start(world, "--port", port, "--exact-port")

    assert ended.returncode == 1
    assert re.fullmatch(rf"✗ Port {port} is held by .+\. Stop it, or .+\n", ended.stderr)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--port", "70000"), "70000 is no port; expected a number up to 65535."),
        (("--host", "192.0.2.1", "--port", "0"), "The API cannot listen on 192.0.2.1:0: "),
        (
            ("--host", "no.such.host.invalid"),
            "The API cannot listen on no.such.host.invalid:8000: ",
        ),
    ],
)
def test_an_address_that_cannot_be_used_is_one_clear_line(world, arguments, message):
    ended = start(world, *arguments)

    assert ended.returncode == 1
    assert ended.stderr.startswith(f"✗ {message}")
    assert ended.stderr.count("\n") == 1


def test_the_next_port_is_taken_when_the_wanted_one_is_held(world):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running_api(world, port=port) as api:
            assert api.base_url.port > port
            assert api.get("/health").status_code == 200
        assert f"Port {port} is held by" in api.log_path.read_text()


def test_a_wrong_setting_is_one_clear_line(world):
    environment = world.api_environment() | {"FTI_DEPLOYMENT__API__PORT": "abc"}
    ended = subprocess.run(
        [sys.executable, "-m", "serving"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )

    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "deployment.api.port" in ended.stderr
