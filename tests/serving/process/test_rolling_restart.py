"""Processes that take over from each other on one port while requests come in."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from tests.worlds.serving import running_api

PATIENT, HASTY = 3, 3


def ask(url: httpx.URL, stop: threading.Event, keeps_connection: bool) -> list[str]:
    """Ask until told to stop; say of each request what came of it."""
    limits = httpx.Limits(max_keepalive_connections=None if keeps_connection else 0)
    outcomes, user = [], 0
    with httpx.Client(base_url=url, timeout=10, limits=limits) as client:
        while not stop.is_set():
            user = user % 300 + 1
            try:
                outcomes.append(str(client.post("/predict", json={"user_id": user}).status_code))
            except httpx.HTTPError as error:
                outcomes.append(repr(error))
    return outcomes


def restart_under_load(world, restarts: int) -> None:
    world.deploy(1)
    stop = threading.Event()
    with ExitStack() as running, ThreadPoolExecutor(PATIENT + HASTY) as pool:
        old = running.enter_context(running_api(world, "--share-port"))
        port = old.base_url.port
        asked = [
            pool.submit(ask, old.base_url, stop, place < PATIENT)
            for place in range(PATIENT + HASTY)
        ]
        try:
            for _ in range(restarts):
                new = running.enter_context(running_api(world, "--share-port", port=port))
                time.sleep(0.3)
                old.process.terminate()
                assert old.process.wait(20) == 0
                old = new
        finally:
            stop.set()
        outcomes = [outcome for each in asked for outcome in each.result()]

    assert len(outcomes) > 100
    assert set(outcomes) == {"200"}


def test_a_rolling_restart_fails_no_request(world):
    restart_under_load(world, restarts=1)


@pytest.mark.full
def test_ten_rolling_restarts_fail_no_request(world):
    restart_under_load(world, restarts=10)
