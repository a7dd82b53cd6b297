import json
import shutil
import subprocess
from contextlib import closing
from datetime import UTC, datetime

import pytest

from models.connect import deployment_store
from models.deployment.record import Arm, deploy
from serving.errors import ServingError
from serving.process.presence import announce, await_deployment, find_api
from tests.worlds.serving import new_world, running_api

URL = "http://localhost:8123"
RECORD = deploy(None, Arm("champion", 1, "v1", "uri", "d" * 64), datetime(2026, 1, 1, tzinfo=UTC))


def test_an_announced_api_is_found_until_it_ends(tmp_path):
    with announce(tmp_path, URL):
        assert find_api(tmp_path).url == URL

    assert find_api(tmp_path) is None


def test_an_api_that_died_without_a_word_is_not_found(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    with announce(tmp_path, URL):
        word = tmp_path / "serving" / "api.json"
        left = json.loads(word.read_text())
        left["process"]["pid"] = ended.pid
        word.write_text(json.dumps(left))

        assert find_api(tmp_path) is None


def test_a_copy_of_a_checkout_does_not_find_the_api_of_the_other(tmp_path):
    with announce(tmp_path / "one", URL):
        shutil.copytree(tmp_path / "one", tmp_path / "copy")

        assert find_api(tmp_path / "copy") is None
        (tmp_path / "one").rename(tmp_path / "moved")
        assert find_api(tmp_path / "moved").url == URL


@pytest.mark.parametrize("word", ["", "{}", "[]", '{"url": "x", "process": null}'])
def test_an_unreadable_word_is_none(tmp_path, word):
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving" / "api.json").write_text(word)

    assert find_api(tmp_path) is None


def test_an_api_leaves_the_word_of_a_later_one(tmp_path):
    with announce(tmp_path, "http://localhost:1"):
        with announce(tmp_path, "http://localhost:2"):
            pass
        with announce(tmp_path, "http://localhost:3"):
            word = (tmp_path / "serving" / "api.json").read_text()
    assert "localhost:3" in word


def test_an_api_that_does_not_take_up_a_deployment_is_said(monkeypatch):
    monkeypatch.setattr("serving.process.presence.TAKE_UP_LIMIT_S", 0.1)

    with pytest.raises(ServingError, match="Deployment 1 is recorded, but the API at http"):
        await_deployment("http://127.0.0.1:1", RECORD, lambda generation: None)


def test_an_api_of_other_records_is_no_endpoint_of_ours(settings, tmp_path):
    with new_world(settings, tmp_path / "a") as ours, new_world(settings, tmp_path / "b") as theirs:
        record, other = ours.deploy(1), theirs.deploy(1)
        with (
            running_api(theirs) as api,
            closing(deployment_store(ours.settings)) as store,
            closing(deployment_store(theirs.settings)) as other_store,
        ):
            url = str(api.base_url).rstrip("/")
            found = await_deployment(url, other, other_store.recorded)
            assert str(found).startswith(f"The API at {url} (model income-predictor, income-xgb-v1")
            assert theirs.settings.feature.project in str(found)

            with pytest.raises(ServingError, match="not recorded here; recorded is deployment 1"):
                await_deployment(url, record, store.recorded)
            # Theirs goes on: its later deployments are not ours either.
            api.until_generation(theirs.deploy(2).generation)
            with pytest.raises(ServingError, match="serves a deployment 2 that is not recorded"):
                await_deployment(url, record, store.recorded)


def test_an_address_of_ip_version_6_is_announced_as_it_is_opened(world):
    world.deploy(1)
    with running_api(world, "--host", "::1") as api:
        assert str(api.base_url).startswith("http://[::1]:")
        assert api.post("/predict", json={"user_id": 1}).status_code == 200
        assert find_api(world.settings.var_dir).url == str(api.base_url).rstrip("/")
