"""The API as a process: what it loads, how it starts, swaps, degrades, dies and comes back."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from configs.settings import ROOT, load_settings
from feature_store.connect import online_store
from feature_store.feature_definitions import MODEL_VIEW
from infrastructure import embedded, services
from tests.serving.worlds import ENGINE, now, random_matrix, running_api, scorer

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


def test_a_new_deployment_is_live_within_a_second(world):
    world.deploy(1)
    with running_api(world) as api:
        world.deploy(2)
        started = time.monotonic()
        api.until_generation(2)

        assert time.monotonic() - started < 1
        answer = api.post("/predict", json={"user_id": 5}).json()
        assert answer["model_version"] == "income-xgb-v2"
        assert answer["probability"] == expected(2, world.matrix.values[4])


def test_swaps_under_load_fail_no_request_and_mix_no_models(world):
    world.deploy(1)
    stop = threading.Event()

    def ask(api) -> list[tuple[int, int, str, float]]:
        answers = []
        while not stop.is_set():
            user = len(answers) % 300 + 1
            answer = api.post("/predict", json={"user_id": user})
            values = answer.json()
            answers.append(
                (answer.status_code, user, values["model_version"], values["probability"])
            )
        return answers

    with running_api(world) as api, ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, api) for _ in range(4)]
        for swap in range(2, 10):
            world.deploy(1 + swap % 2)
            api.until_generation(swap)
        stop.set()
        answers = [answer for each in asked for answer in each.result()]

    assert {status for status, *_ in answers} == {200}
    weights = {version: scorer(version).predict(world.matrix.values) for version in (1, 2)}
    for _, user, label, probability in answers:
        assert probability == float(weights[int(label[-1])][user - 1])
    assert {label for _, _, label, _ in answers} == {"income-xgb-v1", "income-xgb-v2"}


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


@pytest.fixture
def own_redis(tmp_path):
    """Settings with a Redis that the test may stop, with 300 users in it."""
    own = load_settings(var_dir=tmp_path / "redis")
    online_store(own).write(random_matrix(), now())
    yield own
    embedded.delete(own)


def test_a_stopped_redis_degrades_answers_and_fails_none(world, own_redis):
    world.deploy(1)
    project = own_redis.feature.project
    url = embedded.redis_url(own_redis)
    [pid] = [each.pid for each in services.status(own_redis) if each.name == "valkey"]
    with running_api(world, REDIS_URL=url, FTI_FEATURE__PROJECT=project) as api:
        fresh = api.post("/predict", json={"user_id": 1}).json()
        os.kill(pid, signal.SIGSTOP)
        try:
            answers, times = [], []
            for user in [1, 2, 999_999] * 10:
                started = time.monotonic()
                answers.append(api.post("/predict", json={"user_id": user}))
                times.append(time.monotonic() - started)
        finally:
            os.kill(pid, signal.SIGCONT)
        started = time.monotonic()
        while api.post("/predict", json={"user_id": 1}).json()["degraded"]:
            time.sleep(0.02)
        recovery_s = time.monotonic() - started

    assert {answer.status_code for answer in answers} == {200}
    assert max(times) < 0.5
    assert sorted(times)[len(times) // 2] < 0.05
    known, unseen = answers[0].json(), answers[1].json()
    assert known["degraded_reasons"] == ["features_cached"]
    assert known["probability"] == fresh["probability"]
    assert unseen["degraded_reasons"] == ["features_unavailable"]
    assert len(unseen["missing"]) == len(MODEL_VIEW.raw_features)
    assert recovery_s < 2


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
        env={**os.environ, **world.environment()},
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
    environment = world.environment() | {"FTI_DEPLOYMENT__API__PORT": "abc"}
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
