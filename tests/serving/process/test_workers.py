"""Several workers behind one port: they share the load, the numbers, and their fate."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from configs.settings import ROOT
from tests.worlds.serving import Api, World, running_api

LIMIT_S = 20


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ask_alone(api: Api, user: int) -> httpx.Response:
    """Ask over a connection of its own, so that any worker may answer."""
    return httpx.post(f"{api.base_url}/predict", json={"user_id": user}, timeout=LIMIT_S)


def answered(api: Api) -> float:
    """How many predictions `/metrics` tells of, asked over a connection of its own."""
    prefix = 'fti_http_requests_total{path="/predict",status="200"}'
    text = httpx.get(f"{api.base_url}/metrics", timeout=LIMIT_S).text
    found = [line for line in text.splitlines() if line.startswith(prefix)]
    return float(found[0].split()[-1]) if found else 0.0


def test_two_workers_share_a_port_and_a_dead_one_is_replaced(world: World) -> None:
    world.deploy(1)
    with running_api(world, FTI_DEPLOYMENT__API__WORKERS="2") as api:
        wait_until(lambda: len(children(api.process.pid)) == 2)
        api.until_generation(1)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda user: ask_alone(api, user), range(1, 101)))
        assert {answer.status_code for answer in answers} == {200}
        # Each worker has told the others its numbers when all of these know them.
        wait_until(lambda: all(answered(api) == 100 for _ in range(12)))

        first, second = children(api.process.pid)
        assert os.readlink(f"/proc/{first}/exe") == os.readlink(f"/proc/{second}/exe")
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: not is_alive(first))
        # Whoever knocks at the dead worker's socket waits for its successor.
        with ThreadPoolExecutor(8) as pool:
            later = list(pool.map(lambda user: ask_alone(api, user), range(101, 141)))
        assert {answer.status_code for answer in later} == {200}
        wait_until(lambda: len(children(api.process.pid)) == 2)
        assert first not in children(api.process.pid)
        assert second in children(api.process.pid)
        wait_until(lambda: answered(api) == 140)

        workers = children(api.process.pid)
        api.process.terminate()
        assert api.process.wait(LIMIT_S) == 0
        assert not any(is_alive(worker) for worker in workers)
    ids = {answer.json()["prediction_id"] for answer in [*answers, *later]}
    stored = [str(receipt["prediction_id"]) for receipt in world.stored_predictions()]
    assert ids <= set(stored)
    assert len(stored) == len(set(stored))
    assert any("a worker ended with -9" in line["message"] for line in api.log_lines())


def test_workers_whose_supervisor_is_killed_end_too(world: World) -> None:
    world.deploy(1)
    with running_api(world, FTI_DEPLOYMENT__API__WORKERS="2") as api:
        wait_until(lambda: len(children(api.process.pid)) == 2)
        workers = children(api.process.pid)
        api.process.kill()

        wait_until(lambda: not any(is_alive(worker) for worker in workers))


@pytest.mark.parametrize("number", ["0", "many", "65"])
def test_a_number_of_workers_that_makes_no_sense_is_refused(number: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "serving", "--workers", number],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )

    assert ended.returncode == 2
    assert f"{number}; expected a number from 1 to 64" in ended.stderr
