"""A prediction's receipt over HTTP, at once and later, and the prediction once more."""

import math
import os
import shutil
import signal
import time
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs.settings import load_settings
from feature_store.feature_definitions import MODEL_VIEW
from infrastructure import embedded
from infrastructure.servers import services
from monitoring.log.record import new_prediction_id
from tests.worlds.serving import running_api

FIVE = {"age": 35, "workclass": "Private", "education": "Bachelors", "hours-per-week": 40}
NEVER_SHIPPED = {"FTI_MONITORING__PREDICTION_LOG__SHIP_INTERVAL_MS": "3600000"}


def predict(api, **body) -> dict:
    answer = api.post("/predict", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def receipt_of(api, answer: dict) -> dict:
    found = api.get(f"/predictions/{answer['prediction_id']}")
    assert found.status_code == 200, found.text
    return found.json()


def replay_of(api, answer: dict) -> dict:
    found = api.post(f"/predictions/{answer['prediction_id']}/replay")
    assert found.status_code == 200, found.text
    return found.json()


def unknown_id() -> uuid.UUID:
    return uuid.UUID(bytes=new_prediction_id(time.time_ns() // 1000))


def test_a_receipt_is_found_at_once_and_is_the_same_when_it_is_shipped(api, shared_world):
    answer = predict(api, user_id=42, education="Doctorate")
    at_once = receipt_of(api, answer)
    shipped = at_once
    while shipped["stored_in"] != "postgresql":
        shipped = receipt_of(api, answer)

    assert at_once | {"stored_in": "postgresql"} == shipped
    for name in ("prediction_id", "probability", "model_version", "arm"):
        assert shipped[name] == answer[name]
    assert (shipped["user_id"], shipped["unit"], shipped["flags"]) == (
        42,
        "42",
        ["request_attributes"],
    )
    assert shipped["feature_event_time"] == "2026-01-01T00:42:00Z"
    names = list(MODEL_VIEW.schema.names)
    assert list(shipped["features"]) == names
    assert shipped["features"]["education"] == "Doctorate"
    age = shipped["vector"][names.index("age")]
    assert shipped["features"]["age"] == age or (age is None and shipped["features"]["age"] is None)


def test_every_receipt_is_replayed_to_the_bit(api):
    bodies = [{"user_id": user} for user in range(1, 30)] + [FIVE, {"age": 90}, {"sex": "?"}]
    for body in bodies:
        answer = predict(api, **body)
        again = replay_of(api, answer)

        assert again["equal"] is True, again
        assert again["differs"] == []
        [arm] = again["arms"]
        assert arm["replayed"] == arm["logged"] == answer["probability"]


@pytest.mark.parametrize("path", ["/predictions/{}", "/predictions/{}/replay"])
def test_unknown_ids_are_not_found_and_malformed_ones_are_refused(api, path):
    ask = api.post if path.endswith("replay") else api.get

    unknown = ask(path.format(unknown_id()))
    assert unknown.status_code == 404
    assert unknown.json()["error"].startswith("There is no prediction ")
    malformed = ask(path.format("12-34"))
    assert malformed.status_code == 422
    assert malformed.json()["fields"][0]["value"] == "'12-34'"
    for other in (uuid.UUID(int=0), uuid.uuid4()):
        refused = ask(path.format(other))
        assert refused.status_code == 422
        assert "a UUID of version 7" in refused.json()["fields"][0]["expected"]
    to_come = uuid.UUID(bytes=new_prediction_id(time.time_ns() // 1000 + 10**10))
    assert ask(path.format(to_come)).status_code == 404


def test_an_unshipped_receipt_is_found_also_that_of_a_killed_server(world):
    world.deploy(1)
    with running_api(world, **NEVER_SHIPPED) as api:
        answer = predict(api, user_id=7)
        time.sleep(0.3)  # the one shipping at the start is over
        later = predict(api, user_id=8)
        assert receipt_of(api, later)["stored_in"] == "segment file"
        api.process.kill()
    with running_api(world, **NEVER_SHIPPED) as api:
        assert receipt_of(api, answer)["user_id"] == 7
        assert replay_of(api, later)["equal"] is True


def test_a_version_that_serves_no_longer_is_replayed(world):
    world.deploy(1)
    with running_api(world) as api:
        old = predict(api, user_id=7)
        world.deploy(2)
        api.until_generation(2)
        assert replay_of(api, old)["equal"] is True

    # Nothing is in memory or on the disk: the artifact is fetched again.
    shutil.rmtree(world.settings.var_dir / "models")
    with running_api(world) as api:
        again = replay_of(api, old)
        assert (again["equal"], again["differs"]) == (True, [])
        assert again["arms"][0]["model_version"] == "income-xgb-v1"


def test_what_differs_in_a_replay_is_said(world):
    world.deploy(1)
    with running_api(world) as api:
        old = predict(api, user_id=7)
        world.deploy(2)
        api.until_generation(2)
        receipt_of(api, old)
        while receipt_of(api, old)["stored_in"] != "postgresql":
            pass
    shutil.rmtree(world.settings.var_dir / "models")
    registered = world.artifacts.folder / "1" / "model" / "manifest.json"
    registered.write_bytes(registered.read_bytes() + b"\n")
    with running_api(world) as api:
        again = replay_of(api, old)
        assert again["equal"] is False
        [problem] = again["differs"]
        assert problem.startswith("model: income-xgb-v1 cannot be used: the manifest at")
        assert again["arms"][0]["replayed"] is None

        shutil.rmtree(registered.parent)
        [problem] = replay_of(api, old)["differs"]
        assert "income-xgb-v1 cannot be used" in problem


def test_another_engine_is_named(world):
    from monitoring.log.record import Context, Flags, PredictionRecord, ScoredArm
    from monitoring.log.writer import PredictionLog  # a server of another version wrote this
    from tests.worlds.artifacts import scorer

    world.deploy(1)
    vector = world.matrix.values[3]
    logged = float(scorer(1).predict(vector[None, :])[0])
    arm = ScoredArm("champion", 1, "income-xgb-v1")
    engine, schema = "onnx 1.0.0", MODEL_VIEW.schema.fingerprint
    context = Context(1, "champion", 1.0, (arm,), None, engine, schema, 0.5)
    now_us = time.time_ns() // 1000
    record = PredictionRecord(
        new_prediction_id(now_us),
        *(now_us, 4, "4", now_us, vector),
        (float(np.nextafter(np.float32(logged), np.float32(2))),),
        Flags.NONE,
        context,
    )
    log = PredictionLog(world.settings.var_dir / "predictions", 64 * 1024)
    log.append([record.pack()])
    with running_api(world) as api:
        again = replay_of(api, {"prediction_id": record.uuid})
    log.close()

    assert again["equal"] is False
    assert again["differs"][0].startswith("engine: logged 'onnx 1.0.0', here 'onnx ")
    assert again["differs"][1].startswith(f"answer of income-xgb-v1: logged {record.probability}")
    assert math.isclose(again["arms"][0]["replayed"], logged, abs_tol=0)


@pytest.fixture
def own_postgres(tmp_path):
    """The URL of a PostgreSQL that the test may stop, and its process."""
    own = load_settings(var_dir=tmp_path / "postgres")
    url = embedded.postgres_url(own)
    [pid] = [each.pid for each in services.status(own) if each.name == "postgres"]
    yield url, pid
    embedded.delete(own)


def processes_of(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *[int(child) for child in children]]


def test_with_postgresql_stopped_receipts_are_found_and_the_spool_drains_after(world, own_postgres):
    url, pid = own_postgres
    settings = world.settings.model_copy(update={"database_url": url})
    own = replace(world, settings=settings, api_database_url=None)
    own.deploy(1)
    with running_api(own) as api:
        answers = [predict(api, user_id=1)]
        while receipt_of(api, answers[0])["stored_in"] != "postgresql":
            pass
        stopped = processes_of(pid)
        for each in stopped:
            os.kill(each, signal.SIGSTOP)
        try:
            answers += [predict(api, user_id=user) for user in range(2, 40)]
            assert receipt_of(api, answers[5])["stored_in"] == "segment file"
            unknown = api.get(f"/predictions/{unknown_id()}")
            assert (unknown.status_code, unknown.headers["retry-after"]) == (503, "1")
            assert "PostgreSQL does not answer" in unknown.json()["error"]
        finally:
            for each in stopped:
                os.kill(each, signal.SIGCONT)
        deadline = time.monotonic() + 20
        waiting = list(answers)
        while waiting:
            assert time.monotonic() < deadline
            waiting = [a for a in waiting if receipt_of(api, a)["stored_in"] != "postgresql"]
        assert all(replay_of(api, answer)["equal"] for answer in answers[:1])
