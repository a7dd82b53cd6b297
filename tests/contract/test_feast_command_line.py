"""Feast's command line in a plain shell works on the very rows that the pipeline writes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest

from feature_store.feature_definitions import MODEL_VIEW
from infrastructure.servers.ports import take_any
from tests.worlds.feast import CREATED, REPO, World

FEAST = Path(sys.executable).with_name("feast")
PLAIN = ("PATH", "HOME", "PYTHONPATH", "DATABASE_URL", "REDIS_URL")  # where this module's rows are
START, END, NOON = "2020-01-01T00:00:00", "2026-01-01T00:00:00", "2026-01-01T12:00:00"
PATIENCE_S = 120


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start Feast's command in the repository, as a user would."""
    return subprocess.Popen(
        [str(FEAST), *arguments],
        cwd=REPO,
        env={name: os.environ[name] for name in PLAIN if name in os.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def feast(*arguments: str) -> str:
    """Run Feast's command and give what it prints."""
    process = start(*arguments)
    output, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    return output


@pytest.fixture(autouse=True)
def _rows(world: World) -> None:
    """Every test starts with the rows that the pipeline wrote."""
    world.redis.flushdb()
    world.online.write(world.matrix, CREATED)


def test_a_plan_after_apply_finds_nothing_to_do(world: World) -> None:
    printed = feast("plan")
    assert "No changes to registry" in printed
    assert "No changes to infrastructure" in printed


def test_materialize_and_then_what_is_new_write_the_bytes_that_the_pipeline_wrote(
    world: World,
) -> None:
    before = world.packed_rows()
    assert before
    world.redis.flushdb()
    printed = feast("materialize", START, END)
    assert "user_features" in printed
    assert "user_features_packed" not in printed
    assert world.packed_rows() == before
    late = replace(world.matrix.rows(np.array([0])), times=np.array([NOON], "M8[us]"))
    world.offline.append(late, MODEL_VIEW.entity, CREATED)
    world.redis.flushdb()
    feast("materialize-incremental", "2026-01-02T00:00:00")
    assert list(world.packed_rows()) == [world.online.key(1).encode()]


@pytest.mark.full
@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("entities list", ["user_id"]),
        ("data-sources list", ["user_features_push", "user_features_request"]),
        ("feature-views list", ["user_features ", "user_features_on_request"]),
        ("feature-views describe user_features", ["name: user_features", "hours_per_week"]),
        ("on-demand-feature-views list", ["user_features_on_request"]),
        ("feature-services list", ["income-predictor ", "income-predictor_on_request"]),
        ("features list", ["hours_per_week", "country_region"]),
        ("projects list", ["fti"]),
        ("feature-services describe income-predictor", ["table: income_predictor_served"]),
        ("configuration", ["PackedOnlineStore"]),
        ("get-online-features -e user_id=1 -f user_features:age", ["50"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_command_shows_what_there_is(world: World, command: str, expected: list[str]) -> None:
    printed = feast(*command.split())
    assert [text for text in expected if text not in printed] == []


@contextmanager
def served(*arguments: str) -> Iterator[str]:
    """A server of Feast's on a free port, until the block ends; its URL."""
    taken = take_any(listening=False)
    port = taken.number
    process = start(*arguments, "--host", "127.0.0.1", "--port", str(port))
    try:
        url, until = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE_S
        while not answers(port) and time.monotonic() < until:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.1)
        yield url
    finally:
        taken.close()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def page(url: str, body: object = None) -> str:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.status == 200
        return response.read().decode()


def test_the_user_interface_shows_the_registry(world: World) -> None:
    with served("ui") as url:
        assert "<title>Feast Feature Store</title>" in page(f"{url}/")
        assert [p["id"] for p in json.loads(page(f"{url}/projects-list.json"))["projects"]] == [
            "fti"
        ]
        views = json.loads(page(f"{url}/api/v1/feature_views?project=fti"))["featureViews"]
        [view] = [view for view in views if view["spec"]["name"] == MODEL_VIEW.name]
        names = [feature["name"] for feature in view["spec"]["features"]]
        assert names == list(MODEL_VIEW.schema.names)
    with pytest.raises(URLError):
        page(f"{url}/")


@pytest.mark.full
def test_the_feature_server_answers_from_the_same_rows(world: World) -> None:
    asked = {
        "feature_service": "income-predictor_on_request",
        "entities": {"user_id": [1, 2], "attributes": ['{"age": 61}', "{}"]},
    }
    with served("serve") as url:
        answer = json.loads(page(f"{url}/get-online-features", asked))
    place = answer["metadata"]["feature_names"].index("age")
    assert answer["results"][place]["values"] == [61, world.matrix.values[1, 0]]
    assert answer["results"][place]["statuses"] == ["PRESENT", "PRESENT"]
