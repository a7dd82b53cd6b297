"""Deployments that change under load, in every process of a host, and after its agent's death."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import httpx
import numpy as np
import pytest

from tests.worlds.artifacts import scorer
from tests.worlds.serving import Api, World, running_api

CLIENTS = 4
SWAP_LIMIT_S = 1.0
PATIENT = {"FTI_FEATURE__ONLINE__READ_DEADLINE_MS": "5000"}
"""Answers are compared with those to stored features: a busy machine must not degrade them."""


class Asked(NamedTuple):
    """A request under load and what came of it."""

    status: int
    user: int
    label: str
    probability: float


@contextmanager
def load(apis: list[Api]) -> Iterator[list[Asked]]:
    """Ask for one user after the other, from several threads, until the body ends."""
    stop, answers = threading.Event(), []

    def ask(url: httpx.URL, first: int) -> None:
        with httpx.Client(base_url=url, timeout=10) as client:
            user = first
            while not stop.is_set():
                user = user % 300 + 1
                answer = client.post("/predict", json={"user_id": user})
                values = answer.json()
                answers.append(
                    Asked(
                        answer.status_code,
                        user,
                        values.get("model_version"),
                        values.get("probability"),
                    )
                )

    with ThreadPoolExecutor(CLIENTS) as pool:
        asking = [
            pool.submit(ask, apis[place % len(apis)].base_url, 70 * place)
            for place in range(CLIENTS)
        ]
        try:
            yield answers
        finally:
            stop.set()
    for each in asking:
        each.result()


def check(answers: list[Asked], world: World) -> None:
    """Nothing failed, and each answer is what the weights of its version say."""
    weights = {version: scorer(version).predict(world.matrix.values) for version in (1, 2)}
    assert not np.array_equal(weights[1], weights[2])
    assert {each.status for each in answers} == {200}
    assert {each.label for each in answers} == {"income-xgb-v1", "income-xgb-v2"}
    for each in answers:
        assert each.probability == float(weights[int(each.label[-1])][each.user - 1])


def swap_under_load(world: World, swaps: int) -> None:
    world.deploy(1)
    with (
        running_api(world, **PATIENT) as first,
        running_api(world, **PATIENT) as second,
        load([first, second]) as answers,
    ):
        for generation in range(2, swaps + 2):
            world.deploy(1 + (generation + 1) % 2)
            for api in (first, second):
                api.until_generation(generation)
            time.sleep(0.1)
    check(answers, world)


def test_swaps_under_load_fail_no_request_and_mix_no_models(world):
    swap_under_load(world, swaps=3)


@pytest.mark.full
def test_twenty_swaps_under_load_fail_no_request_and_mix_no_models(world):
    swap_under_load(world, swaps=20)


def activated_at(world: World) -> float:
    return (world.settings.var_dir / "serving" / "current.json").stat().st_mtime


@pytest.mark.full
def test_every_process_is_live_within_a_second_of_activation(world):
    world.deploy(1)
    with running_api(world) as first, running_api(world) as second:
        delays = []
        for generation in range(2, 12):
            world.deploy(1 + (generation + 1) % 2)
            for api in (first, second):
                api.until_generation(generation)
            delays.append(time.time() - activated_at(world))

    assert max(delays) < SWAP_LIMIT_S, delays


def test_when_the_agent_dies_another_process_takes_over(world):
    world.deploy(1)
    with running_api(world) as first, running_api(world) as second:
        answer = first.post("/predict", json={"user_id": 1}).json()
        first.process.kill()
        first.process.wait()
        deployment = world.deploy(2)
        second.until_generation(deployment.generation)
        assert second.post("/predict", json={"user_id": 1}).json()["model_version"][-1] == "2"

        deadline = time.monotonic() + 10  # it ships what the dead one left, too
        while len(stored := world.stored_predictions()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert answer["prediction_id"] in {str(row["prediction_id"]) for row in stored}
