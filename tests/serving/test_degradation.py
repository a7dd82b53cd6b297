"""A real Redis that stops, dies, or becomes slow, in front of a real API under load."""

import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from configs.settings import load_settings
from feature_store.connect import online_store
from infrastructure import embedded
from infrastructure.servers import services
from tests.serving.redis.slow_proxy import slow_proxy
from tests.worlds.artifacts import scorer
from tests.worlds.rows import ENGINE, random_matrix
from tests.worlds.serving import new_world, now, running_api

RECOVERY_LIMIT_S = 2.0
CLIENTS = 4


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory):
    """Settings with a Redis that a test may stop, with 300 users in it."""
    own = load_settings(var_dir=tmp_path_factory.mktemp("redis"))
    online_store(own).write(random_matrix(), now())
    yield own
    embedded.delete(own)


@pytest.fixture(scope="module")
def proxy(own_redis):
    with slow_proxy(lambda: embedded.redis_url(own_redis)) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def api(settings, own_redis, proxy, tmp_path_factory):
    """An API that reads from the Redis behind the proxy, and remembers 50 users."""
    with new_world(settings, tmp_path_factory.mktemp("world")) as world:
        world.deploy(1)
        environment = {
            "REDIS_URL": proxy.url,
            "FTI_FEATURE__PROJECT": own_redis.feature.project,
            "FTI_DEPLOYMENT__API__REMEMBERED_USERS": "50",
        }
        with running_api(world, **environment) as api:
            yield api


@pytest.fixture(scope="module")
def own(settings):
    """What each user's own features are answered, and what nobody's are."""
    weights = scorer(1)
    nothing = float(weights.predict(ENGINE.row({})[None, :])[0])
    return weights.predict(random_matrix().values).astype(float).tolist(), nothing


@contextmanager
def load(api):
    """Ask for random users until the body ends; give the answers by user."""
    stop, answers = threading.Event(), []

    def ask(seed):
        draw = random.Random(seed)
        with httpx.Client(base_url=api.base_url, timeout=10) as client:
            while not stop.is_set():
                user = draw.randint(1, 300)
                answers.append((user, client.post("/predict", json={"user_id": user})))

    with ThreadPoolExecutor(CLIENTS) as pool:
        asking = [pool.submit(ask, seed) for seed in range(CLIENTS)]
        try:
            yield answers
        finally:
            stop.set()
    for each in asking:
        each.result()


def check(answers, own) -> set[str]:
    """Each answer is of the user's own features or of none, and says which; give the reasons."""
    by_user, nothing = own
    reasons = set()
    for user, answer in answers:
        assert answer.status_code == 200, answer.text
        values = answer.json()
        if values["degraded_reasons"] == ["features_unavailable"]:
            assert values["probability"] == nothing
        else:
            assert values["probability"] == by_user[user - 1]
            assert values["degraded_reasons"] in ([], ["features_cached"])
        assert values["degraded"] == bool(values["degraded_reasons"])
        reasons |= set(values["degraded_reasons"])
    return reasons


def until_fresh(api) -> float:
    started = time.monotonic()
    while api.post("/predict", json={"user_id": 1}).json()["degraded"]:
        assert time.monotonic() - started < 10 * RECOVERY_LIMIT_S
        time.sleep(0.01)
    return time.monotonic() - started


def until_degraded(api) -> None:
    deadline = time.monotonic() + 10
    while not api.post("/predict", json={"user_id": 1}).json()["degraded"]:
        assert time.monotonic() < deadline


def valkey_of(own_redis) -> int:
    [pid] = [each.pid for each in services.status(own_redis) if each.name == "valkey"]
    return pid


def test_a_stopped_redis_degrades_answers_and_fails_none(api, own_redis, own):
    with load(api) as answers:
        until_fresh(api)
        os.kill(valkey_of(own_redis), signal.SIGSTOP)
        try:
            until_degraded(api)
            time.sleep(1)
            text = api.get("/metrics").text
        finally:
            os.kill(valkey_of(own_redis), signal.SIGCONT)
        recovery_s = until_fresh(api)

    assert check(answers, own) == {"features_cached", "features_unavailable"}
    assert recovery_s < RECOVERY_LIMIT_S
    assert "fti_online_store_connected 0.0" in text
    assert 'fti_predictions_degraded_total{reason="features_cached"}' in text
    log = [line["message"] for line in api.log_lines()]
    assert any("online store: unavailable" in line for line in log)


def test_a_killed_redis_degrades_answers_and_fails_none(api, own_redis, own):
    with load(api) as answers:
        until_fresh(api)
        os.kill(valkey_of(own_redis), signal.SIGKILL)
        until_degraded(api)
        embedded.redis_url(own_redis)  # started again, with what was on its disk
        recovery_s = until_fresh(api)

    assert check(answers, own) == {"features_cached", "features_unavailable"}
    assert recovery_s < RECOVERY_LIMIT_S


def test_a_redis_that_is_late_now_and_then_gives_nobody_others_features(api, proxy, own):
    draw = random.Random(7)
    with load(api) as answers:
        until_fresh(api)
        proxy.delay_s = lambda: draw.choice((0, 0, 0, 0.045, 0.055, 0.08))
        time.sleep(3)
        proxy.delay_s = lambda: 0.0
        until_fresh(api)

    assert "features_cached" in check(answers, own)


def test_a_redis_whose_connections_are_cut_is_found_again(api, proxy, own):
    with load(api) as answers:
        until_fresh(api)
        proxy.cut()
        until_degraded(api)
        time.sleep(1)
        proxy.is_cut = False
        recovery_s = until_fresh(api)

    check(answers, own)
    assert recovery_s < RECOVERY_LIMIT_S
