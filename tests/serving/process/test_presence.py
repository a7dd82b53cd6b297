import json
import subprocess

import pytest

from serving.errors import ServingError
from serving.process.presence import announce, await_generation, find_api


def test_an_announced_api_is_found_until_it_ends(tmp_path):
    with announce(tmp_path, 8123):
        assert find_api(tmp_path).url == "http://localhost:8123"

    assert find_api(tmp_path) is None


def test_an_api_that_died_without_a_word_is_not_found(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    with announce(tmp_path, 8123):
        word = tmp_path / "serving" / "api.json"
        left = json.loads(word.read_text())
        left["process"]["pid"] = ended.pid
        word.write_text(json.dumps(left))

        assert find_api(tmp_path) is None


@pytest.mark.parametrize("word", ["", "{}", "[]", '{"url": "x", "process": null}'])
def test_an_unreadable_word_is_none(tmp_path, word):
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving" / "api.json").write_text(word)

    assert find_api(tmp_path) is None


def test_an_api_leaves_the_word_of_a_later_one(tmp_path):
    with announce(tmp_path, 1):
        with announce(tmp_path, 2):
            pass
        with announce(tmp_path, 3):
            word = (tmp_path / "serving" / "api.json").read_text()
    assert "localhost:3" in word


def test_an_api_that_does_not_take_up_a_deployment_is_said(monkeypatch):
    monkeypatch.setattr("serving.process.presence.TAKE_UP_LIMIT_S", 0.1)

    with pytest.raises(ServingError, match="Deployment 3 is recorded, but the API at http"):
        await_generation("http://127.0.0.1:1", 3)
