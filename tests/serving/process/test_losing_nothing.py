"""What was acknowledged is kept: whenever the server is killed, and when the disk is full."""

import os
import subprocess
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from models.connect import postgres
from monitoring.log.record import new_prediction_id
from tests.worlds.serving import Api, running_api

FIVE = {"age": 35, "workclass": "Private", "education": "Bachelors", "hours-per-week": 40}


class Load:
    """Callers that ask and report without a pause, and keep what was acknowledged."""

    def __init__(self) -> None:
        self.predictions: list[str] = []
        self.labels: list[str] = []
        self.refusals: list[tuple[int, str | None]] = []
        self.refused: dict[str, str] = {}
        self.stop = threading.Event()

    def post(self, api: Api, path: str, body: object) -> dict | None:
        answer = api.post(path, json=body, timeout=30)
        if answer.is_success:
            return answer.json()
        self.refusals.append((answer.status_code, answer.headers.get("retry-after")))
        self.refused[path] = answer.json()["error"]
        time.sleep(0.01)
        return None

    def predict(self, api: Api) -> None:
        if answer := self.post(api, "/predict", {"user_id": 7}):
            self.predictions.append(answer["prediction_id"])

    def predict_many(self, api: Api) -> None:
        if answer := self.post(api, "/predict/batch", {"rows": [FIVE, {"user_id": 8}] * 10}):
            self.predictions += [row["prediction_id"] for row in answer["predictions"]]

    def report(self, api: Api) -> None:
        ids = [str(uuid.UUID(bytes=new_prediction_id(time.time_ns() // 1000))) for _ in range(5)]
        labels = [{"prediction_id": each, "label": 1} for each in ids]
        if self.post(api, "/feedback", {"labels": labels}):
            self.labels += ids

    @contextmanager
    def on(self, api: Api):
        """Load an API during the body; that it dies ends its callers."""

        def caller(ask) -> None:
            try:
                while not self.stop.is_set():
                    ask(api)
            except Exception:  # noqa: BLE001 - the server is gone, in whatever way it shows
                return

        self.stop.clear()
        with ThreadPoolExecutor(5) as pool:
            for ask in (self.predict, self.predict, self.predict, self.predict_many, self.report):
                pool.submit(caller, ask)
            yield
            self.stop.set()


def column(world, query: str) -> list[str]:
    with postgres(world.settings)() as connection:
        return [str(row[0]) for row in connection.execute(query).fetchall()]


def assert_all_arrive_once(world, load: Load) -> None:
    folder = world.settings.var_dir / "predictions"
    with running_api(world):
        deadline = time.monotonic() + 30
        # Those of the server that runs stay open; all others are shipped and removed.
        while len(list(folder.glob("*.segment"))) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    predictions = column(world, "SELECT prediction_id FROM predictions")
    labels = column(world, "SELECT prediction_id FROM labels")
    assert len(predictions) == len(set(predictions))
    assert len(labels) == len(set(labels))
    assert set(load.predictions) <= set(predictions)
    assert set(load.labels) <= set(labels)
    assert list(folder.glob("*.segment")) == []
    assert not (folder / "quarantine").exists()


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.full)])
def test_killed_under_load_it_loses_nothing_that_it_acknowledged(world, kills):
    world.deploy(1)
    load = Load()
    small = {"FTI_MONITORING__PREDICTION_LOG__SEGMENT_BYTES": "262144"}
    for kill in range(1, kills + 1):
        with running_api(world, **small) as api, load.on(api):
            deadline = time.monotonic() + 30
            while len(load.predictions) < 50 * kill or len(load.labels) < 10 * kill:
                assert time.monotonic() < deadline
                time.sleep(0.03 + 0.01 * (kill % 5))
            api.process.kill()

    assert load.refusals == []
    assert_all_arrive_once(world, load)


@contextmanager
def small_disk(folder, bytes_: int):
    """A file system of its own at a folder; where nobody may mount one, the test is skipped."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={bytes_}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_on_a_full_disk_nothing_is_answered_that_is_not_logged_and_it_recovers(world):
    world.deploy(1)
    folder, load = world.settings.var_dir / "predictions", Load()
    settings = {
        "FTI_MONITORING__PREDICTION_LOG__SEGMENT_BYTES": "65536",
        "FTI_MONITORING__PREDICTION_LOG__SHIP_INTERVAL_MS": "3600000",  # nothing makes room
    }
    with small_disk(folder, 2_000_000):
        filler = folder / "filler"
        with running_api(world, **settings) as api:
            deadline = time.monotonic() + 60
            with load.on(api):
                while not set(load.refused) >= {"/predict", "/predict/batch", "/feedback"}:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            assert set(load.refusals) == {(503, "1")}
            for error in load.refused.values():
                assert "cannot be written: No space left on device" in error
            with pytest.raises(OSError, match="No space left on device"):
                filler.write_bytes(bytes(100_000))
            assert api.get("/health").status_code == 200
            assert api.get("/ready").status_code == 503
            for each in load.predictions[-3:]:
                assert api.get(f"/predictions/{each}").status_code == 200

            filler.unlink()
            subprocess.run(["mount", "-o", "remount,size=20000000", str(folder)], check=True)
            api.until("/ready", lambda answer: answer.status_code == 200)
            answered, load.refusals = len(load.predictions), []
            with load.on(api):
                while len(load.predictions) < answered + 50:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            assert load.refusals == []
        assert_all_arrive_once(world, load)
