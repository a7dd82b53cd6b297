"""A request that was planned once answers to the bit what Feast's own way answers, or refuses."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from feast import FeatureService, FeatureStore
from feast.online_response import OnlineResponse
from feast.protos.feast.types.Value_pb2 import RepeatedValue, Value

from configs.settings import load_settings
from feature_store.connect import activity_writer
from feature_store.errors import StoreUnavailable
from feature_store.feast_plugin.online.planned_response import PlannedResponse
from feature_store.feature_definitions import MODEL_VIEW, USER_ACTIVITY
from feature_store.offline.events import ActivityEvent
from tests.worlds.feast import CREATED, REPO, UNKNOWN, USERS, World, by_feast, outcome

VIEW = MODEL_VIEW.name
NAMES = list(MODEL_VIEW.schema.names)
ALL = [f"{VIEW}:{name}" for name in NAMES]
SOME = [f"{VIEW}:age", f"{VIEW}:sex", f"{VIEW}:capital_gain_log"]
BOTH = [*SOME, *(f"{USER_ACTIVITY.name}:{name}" for name in USER_ACTIVITY.schema.names)]
ON_REQUEST = [f"{VIEW}_on_request:age", f"{VIEW}:sex"]
KEYS = [3, UNKNOWN, USERS, USERS - 1, 1, 3, -7]
PLAIN = [{"user_id": key} for key in KEYS]
WITH_ATTRIBUTES = {"user_id": [1, UNKNOWN], "attributes": ['{"age": 61}', "{}"]}
REQUESTS: dict[str, tuple[Any, Any]] = {
    "one": (ALL, [{"user_id": 1}]),
    "several, some twice": (ALL, PLAIN),
    "by column": (SOME, {"user_id": KEYS}),
    "both views": (BOTH, PLAIN),
    "numbers of numpy": (SOME, [{"user_id": np.int64(key)} for key in KEYS]),
    "numbers as text": (SOME, [{"user_id": "3"}]),
    "messages": (SOME, {"user_id": RepeatedValue(val=[Value(int64_val=key) for key in KEYS])}),
    "a column that nobody knows": (SOME, [{"user_id": 1, "colour": "red"}]),
    "on demand": (ON_REQUEST, WITH_ATTRIBUTES),
    "nobody": (SOME, {"user_id": []}),
    "no rows": (SOME, []),
    "no features": ([], PLAIN),
    "no such feature": ([f"{VIEW}:agee"], PLAIN),
    "no such view": (["people:age"], PLAIN),
    "not a feature": (["age"], PLAIN),
    "a feature twice": ([*SOME, SOME[0]], PLAIN),
    "another key": (SOME, [{"person": 1}]),
    "keys that differ": (SOME, [{"user_id": 1}, {"person": 1}]),
    "a key that is missing": (SOME, [{"user_id": None}, {"user_id": 1}]),
    "a key that is a fraction": (SOME, [{"user_id": 1.5}]),
    "a key beyond 64 bits": (SOME, [{"user_id": 2**63}]),
    "a key that is a truth": (SOME, [{"user_id": True}]),
}
PLANNED = {"one", "several, some twice", "by column", "both views"}


@pytest.fixture(scope="module", autouse=True)
def _events(world: World) -> None:
    """A user with events of now and one whose newest are too old."""
    now = datetime.now(UTC)
    ages = {1: timedelta(minutes=5), 3: timedelta(days=300)}
    events = [ActivityEvent(f"e{key}", key, now - age, "visit", 250) for key, age in ages.items()]
    activity_writer(load_settings()).apply(events, now)


@pytest.mark.parametrize("full_names", [False, True], ids=["short", "full"])
@pytest.mark.parametrize("name", REQUESTS)
def test_a_planned_request_answers_as_feasts_own_way(
    world: World, name: str, full_names: bool
) -> None:
    request, options = REQUESTS[name], {"full_feature_names": full_names}
    expected = outcome(lambda: by_feast(world.feast, *request, **options))
    for _ in range(2):
        assert outcome(lambda: world.feast.get_online_features(*request, **options)) == expected

    async def read() -> OnlineResponse:
        answer = await world.feast.get_online_features_async(*request, **options)
        await world.feast.provider.online_store.close()
        return answer

    assert outcome(lambda: asyncio.run(read())) == expected


@pytest.mark.parametrize("name", REQUESTS)
def test_only_plain_requests_are_planned(world: World, name: str) -> None:
    if outcome(lambda: by_feast(world.feast, *REQUESTS[name]))[0] == "answered":
        answer = world.feast.get_online_features(*REQUESTS[name])
        assert isinstance(answer, PlannedResponse) == (name in PLANNED)


@pytest.mark.parametrize("service", ["service", "service_on_request"])
@pytest.mark.parametrize("precompute", [False, True])
def test_a_service_answers_as_feasts_own_way(world: World, service: str, precompute: bool) -> None:
    given = world.objects[service]
    rows = WITH_ATTRIBUTES if "request" in service else {"user_id": KEYS}
    expected = outcome(lambda: by_feast(world.feast, given, rows))
    assert expected[0] == "answered"
    name, features = f"{given.name}_{precompute}", given._features
    asked = FeatureService(name=name, features=features, precompute_online=precompute)
    world.feast.apply([asked])
    try:
        assert outcome(lambda: world.feast.get_online_features(asked, rows)) == expected
        odd = {column: list(np.array(values)) for column, values in rows.items()}
        if "request" not in service:  # what is no plain number goes Feast's own way
            assert outcome(lambda: world.feast.get_online_features(asked, odd)) == expected
    finally:
        world.feast.delete_feature_service(name)


def test_versions_of_views_come_with_an_answer_that_asks_for_them(world: World) -> None:
    request, options = (SOME, PLAIN), {"include_feature_view_version_metadata": True}
    expected = outcome(lambda: by_feast(world.feast, *request, **options))
    assert outcome(lambda: world.feast.get_online_features(*request, **options)) == expected


def test_who_changes_the_message_of_an_answer_changes_what_it_says(world: World) -> None:
    answer = world.feast.get_online_features(SOME, [{"user_id": 1}])
    del answer.proto.metadata.feature_names.val[1:]
    assert list(answer.to_dict()) == ["user_id"]


@pytest.fixture
def _view(world: World) -> Iterator[None]:
    yield
    world.feast.apply([world.view])


def ttl_of(world: World, ttl: timedelta) -> Any:
    view = FeatureStore(repo_path=str(REPO)).get_feature_view(VIEW)
    view.ttl = ttl
    return view


@pytest.mark.usefixtures("_view")
def test_a_plan_is_made_anew_when_the_registry_changes(world: World) -> None:
    def age() -> Any:
        return world.feast.get_online_features(SOME, [{"user_id": 1}]).to_dict()["age"]

    assert age() != [None]
    world.feast.apply([ttl_of(world, timedelta(days=1))])
    assert age() == [None]
    expected = outcome(lambda: by_feast(world.feast, SOME, PLAIN))
    assert outcome(lambda: world.feast.get_online_features(SOME, PLAIN)) == expected
    other = FeatureStore(repo_path=str(REPO))
    other.apply([ttl_of(world, timedelta(0))])
    world.feast.refresh_registry()
    assert age() != [None]


@pytest.mark.usefixtures("_view")
def test_a_plan_goes_when_the_registrys_time_is_up(world: World) -> None:
    registry = world.feast.config.registry_config | {"cache_ttl_seconds": 1}
    feast = world.feast_with(registry=registry)

    def age() -> Any:
        return feast.get_online_features(SOME, [{"user_id": 1}]).to_dict()["age"]

    assert age() != [None]
    FeatureStore(repo_path=str(REPO)).apply([ttl_of(world, timedelta(days=1))])
    until = datetime.now(UTC) + timedelta(seconds=10)
    while age() != [None]:
        assert datetime.now(UTC) < until


def test_a_newer_row_is_seen_by_a_plan(world: World) -> None:
    def age() -> Any:
        return world.feast.get_online_features(SOME, [{"user_id": 5}]).to_dict()["age"]

    before = age()
    row = world.matrix.rows(np.array([4]))
    row.values[0, 0] = before[0] + 1
    newer = type(row)(row.values, row.keys, row.times + np.timedelta64(900, "D"), row.schema)
    world.online.write(newer, CREATED)
    assert age() == [before[0] + 1]


def test_a_connection_that_the_server_closed_meanwhile_is_no_failure(world: World) -> None:
    async def read() -> list[Any]:
        answers = []
        for _ in range(3):
            answer = await world.feast.get_online_features_async(SOME, [{"user_id": 1}])
            answers.append(answer.to_dict())
            world.redis.client_kill_filter(_type="normal", skipme=True)
        await world.feast.provider.online_store.close()
        return answers

    expected = world.feast.get_online_features(SOME, [{"user_id": 1}]).to_dict()
    assert asyncio.run(read()) == [expected] * 3


def test_an_answer_that_comes_late_is_never_taken_for_the_next_one(world: World) -> None:
    online = world.feast.config.online_config | {"read_deadline_ms": 50}
    feast = world.feast_with(online_store=online)

    async def read() -> list[Any]:
        await feast.get_online_features_async(SOME, [{"user_id": 1}])
        world.redis.client_pause(300)
        with pytest.raises(StoreUnavailable, match="no answer within 50 ms"):
            await feast.get_online_features_async(SOME, [{"user_id": 1}])
        await asyncio.sleep(0.5)
        rows = [[{"user_id": key}] for key in (3, 5, 3)]
        answers = [await feast.get_online_features_async(SOME, row) for row in rows]
        await feast.provider.online_store.close()
        return [answer.to_dict() for answer in answers]

    expected = [
        world.feast.get_online_features(SOME, [{"user_id": key}]).to_dict() for key in (3, 5, 3)
    ]
    assert asyncio.run(read()) == expected


def test_only_so_many_plans_are_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feature_store.feast_plugin.online.planning.PLANS", 4)
    for names in itertools.islice(itertools.combinations(NAMES, 2), 20):
        refs = [f"{VIEW}:{name}" for name in names]
        assert list(world.feast.get_online_features(refs, [{"user_id": 1}]).to_dict())[1:]
    assert len(world.feast.provider.online_store._plans._plans) <= 4
