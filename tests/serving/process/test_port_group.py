"""Workers without a model beside workers that have it, on one port."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.worlds.serving import Api, World, new_host, running_api


def ask(api: Api, times: int) -> Counter[int]:
    """Statuses of predictions, each over a connection of its own."""
    with ThreadPoolExecutor(8) as pool:
        url = f"{api.base_url}/predict"
        asked = pool.map(lambda user: httpx.post(url, json={"user_id": user + 1}), range(times))
        return Counter(answer.status_code for answer in asked)


def test_a_process_without_a_model_takes_no_traffic_beside_one_that_has_it(
    world: World, tmp_path: Path
) -> None:
    world.deploy(1)
    with running_api(world, "--share-port") as full:
        full.until_generation(1)
        port = full.base_url.port
        # A host with nothing on its disk and no MLflow has no model, and cannot get it.
        with running_api(new_host(world, tmp_path / "host"), "--share-port", port=port) as empty:
            wait_for(lambda: "cannot be used" in empty.log_path.read_text())
            assert ask(full, 100) == {200: 100}
            # It is alone now: somebody must say what is wrong.
            full.process.terminate()
            assert full.process.wait(20) == 0
            refused = empty.until("/ready", lambda answer: answer.status_code == 503)
            assert "MLflow" in refused.json()["error"]


def test_one_that_was_alone_without_a_model_leaves_and_comes_back_with_it(
    world: World, tmp_path: Path
) -> None:
    world.deploy(1)
    host = new_host(world, tmp_path / "host")
    mirror = tmp_path / "mirror"
    with running_api(host, "--share-port", FTI_DEPLOYMENT__ARTIFACT_MIRROR=str(mirror)) as empty:
        assert empty.until("/ready", lambda answer: answer.status_code == 503)
        port = empty.base_url.port
        with running_api(world, "--share-port", port=port) as full:
            wait_for(lambda: ask(full, 20) == {200: 20})
            assert ask(full, 100) == {200: 100}
            fill(mirror, world)
            world.deploy(2)  # a record that has not been refused yet is looked at at once
            wait_for(lambda: "deployment 2 is live" in empty.log_path.read_text())
            time.sleep(0.5)  # both are in: it answers as the other one ends
            full.process.terminate()
            assert full.process.wait(20) == 0
        assert ask(empty, 20) == {200: 20}


def test_no_request_fails_while_a_model_comes_to_workers_that_had_none(world: World) -> None:
    with running_api(world, "--workers", "2") as api:
        assert api.until("/ready", lambda answer: answer.status_code == 503)
        stop, statuses = threading.Event(), Counter[int]()

        def knock() -> None:
            while not stop.is_set():
                statuses[httpx.get(f"{api.base_url}/health").status_code] += 1

        thread = threading.Thread(target=knock)
        thread.start()
        world.deploy(1)
        api.until_generation(1)
        wait_for(lambda: ask(api, 30) == {200: 30})
        stop.set()
        thread.join()
        assert statuses.keys() == {200}
        assert ask(api, 100) == {200: 100}


def fill(folder: Path, world: World) -> None:
    """Put version 2 into a mirror."""
    from models.artifact.cache import ArtifactCache, MlflowFiles
    from models.artifact.mirror import ArtifactMirror

    arm = world.artifacts.arm(2)
    cache = ArtifactCache(folder.parent / "deployer", MlflowFiles(lambda: world.artifacts.url))
    ArtifactMirror(str(folder)).fill(cache.get(arm.artifact_uri, arm.digest))


def wait_for(is_so) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)
