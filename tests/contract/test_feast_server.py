"""`feast serve`: what is planned leaves the short way, and is what Feast's own way would send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from feast import metrics
from feast.feature_server import get_app

from feature_store.feast_plugin.server.serving import PATH, shorten
from feature_store.feature_definitions import MODEL_VIEW
from tests.worlds.feast import CREATED, UNKNOWN, USERS, World, served

VIEW = MODEL_VIEW.name
ALL = [f"{VIEW}:{name}" for name in MODEL_VIEW.schema.names]
SOME = [f"{VIEW}:age", f"{VIEW}:sex", f"{VIEW}:capital_gain_log"]
KEYS = [3, UNKNOWN, USERS, USERS - 1, 1, 3, -7]
REQUESTS: dict[str, dict[str, Any]] = {
    "one": {"features": ALL, "entities": {"user_id": [1]}},
    "several, some twice": {"features": ALL, "entities": {"user_id": KEYS}},
    "full names": {"features": SOME, "entities": {"user_id": KEYS}, "full_feature_names": True},
    "a service": {"feature_service": "income-predictor", "entities": {"user_id": KEYS}},
    "on demand": {
        "feature_service": "income-predictor_on_request",
        "entities": {"user_id": [1, 2], "attributes": ['{"age": 61}', "{}"]},
    },
    "versions": {
        "features": SOME,
        "entities": {"user_id": [1]},
        "include_feature_view_version_metadata": True,
    },
    "no such feature": {"features": [f"{VIEW}:agee"], "entities": {"user_id": [1]}},
    "no such service": {"feature_service": "people", "entities": {"user_id": [1]}},
    "no features": {"entities": {"user_id": [1]}},
    "nobody": {"features": SOME, "entities": {"user_id": []}},
    "no entities": {"features": SOME},
    "another key": {"features": SOME, "entities": {"person": [1]}},
    "a key that is text": {"features": SOME, "entities": {"user_id": ["x"]}},
}
SHORT = {"one", "several, some twice", "full names", "a service"}


class Servers(NamedTuple):
    """Feast's server as it is, ours, and the bodies that ours sent the long way."""

    feasts: httpx.Client
    own: httpx.Client
    long_way: list[bytes]


@pytest.fixture(scope="module")
def servers(world: World) -> Iterator[Servers]:
    """Both servers, over rows with all kinds of times."""
    world.redis.flushdb()
    world.online.write(with_times(world), CREATED)
    plain, short = get_app(world.feast), get_app(world.feast)
    long_way: list[bytes] = []
    note_long_way(short, long_way)
    shorten(short)
    with served(plain) as feasts, served(short) as own:
        yield Servers(feasts, own, long_way)


def with_times(world: World) -> Any:
    """The rows, with times in whole seconds, thousandths and millionths."""
    rows = world.matrix.rows(np.arange(USERS))
    parts = np.array([0, 250_000, 123_456], dtype="m8[us]")
    times = rows.times.astype("M8[s]").astype("M8[us]") + np.resize(parts, USERS)
    return type(rows)(rows.values, rows.keys, times, rows.schema)


def note_long_way(app: FastAPI, bodies: list[bytes]) -> None:
    """Note each request that reaches Feast's own route."""
    [route] = [each for each in app.router.routes if getattr(each, "path", "") == PATH]
    handle = route.handle

    async def noted(scope: Any, receive: Any, send: Any) -> None:
        async def read() -> Any:
            message = await receive()
            bodies.append(message.get("body", b""))
            return message

        await handle(scope, read, send)

    route.handle = noted


@pytest.mark.parametrize("name", REQUESTS)
def test_the_server_sends_what_feasts_own_would_send(servers: Servers, name: str) -> None:
    feasts, own, long_way = servers
    expected = feasts.post(PATH, json=REQUESTS[name])
    for _ in range(2):
        long_way.clear()
        answer = own.post(PATH, json=REQUESTS[name])
        assert answer.status_code == expected.status_code
        assert answer.content == expected.content
        assert answer.headers["content-type"] == expected.headers["content-type"]
        assert answer.status_code != 200 or (long_way == []) == (name in SHORT)


@pytest.mark.parametrize(
    ("method", "body", "kind"),
    [
        ("GET", b"", "application/json"),
        ("POST", b"{", "application/json"),
        ("POST", b"[]", "application/json"),
        ("POST", json.dumps(REQUESTS["one"]).encode(), "text/plain"),
    ],
    ids=["another method", "no JSON", "no object", "not said to be JSON"],
)
def test_what_is_no_request_is_refused_as_by_feasts_own(
    servers: Servers, method: str, body: bytes, kind: str
) -> None:
    headers = {"content-type": kind}
    feasts, own, _ = servers
    expected = feasts.request(method, PATH, content=body, headers=headers)
    answer = own.request(method, PATH, content=body, headers=headers)
    assert (answer.status_code, answer.content) == (expected.status_code, expected.content)
    assert expected.status_code >= 400 or kind == "text/plain"


def test_an_expired_row_says_so(world: World, servers: Servers) -> None:
    feasts, own, long_way = servers
    view = world.feast.get_feature_view(VIEW)
    view.ttl = timedelta(days=1)
    world.feast.apply([view])
    long_way.clear()
    try:
        answer = own.post(PATH, json=REQUESTS["several, some twice"])
        assert "OUTSIDE_MAX_AGE" in answer.text
        assert answer.content == feasts.post(PATH, json=REQUESTS["several, some twice"]).content
        assert long_way == []
    finally:
        world.feast.apply([world.view])


def test_requests_take_the_long_way_while_they_are_counted(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, own, long_way = servers
    monkeypatch.setattr(metrics, "_config", metrics._MetricsFlags(enabled=True, request=True))
    long_way.clear()
    assert own.post(PATH, json=REQUESTS["one"]).status_code == 200
    assert long_way != []


def test_a_newer_row_is_served_at_once(world: World, servers: Servers) -> None:
    _, own, _ = servers
    request = {"features": SOME[:1], "entities": {"user_id": [5]}}
    [before] = own.post(PATH, json=request).json()["results"][1]["values"]
    row = world.matrix.rows(np.array([4]))
    row.values[0, 0] = before + 1
    now = np.array([datetime.now(UTC).replace(tzinfo=None)], "M8[us]")
    world.online.write(type(row)(row.values, row.keys, now, row.schema), CREATED)
    assert own.post(PATH, json=request).json()["results"][1]["values"] == [before + 1]
