"""Online features through Feast's own client are those of our own calls, from the same bytes."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, ValueType
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
)
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.types import Int64

from feature_store.connect import get_online_features
from feature_store.errors import StoreUnavailable, UnknownFeature
from feature_store.feature_definitions import MODEL_VIEW
from tests.contract.conftest import CREATED, UNKNOWN, USERS, World

START, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
NAMES = list(MODEL_VIEW.schema.names)
REFS = [f"{MODEL_VIEW.name}:{name}" for name in NAMES]
AGE = [f"{MODEL_VIEW.name}:age"]
STOCK_ENGINE = "local"


@pytest.fixture(autouse=True)
def _rows(world: World) -> Iterator[None]:
    """Every test starts with the rows that the pipeline wrote."""
    world.redis.flushdb()
    world.online.write(world.matrix, CREATED)
    return


def users(*keys: int) -> list[dict[str, int]]:
    return [{"user_id": key} for key in keys]


def statuses(feast: FeatureStore, *keys: int) -> list[str]:
    response = feast.get_online_features(AGE, users(*keys)).proto
    [place] = [i for i, name in enumerate(response.metadata.feature_names.val) if name == "age"]
    return [FieldStatus.Name(status) for status in response.results[place].statuses]


def test_online_features_are_those_of_our_own_call(world: World) -> None:
    keys = [*range(1, USERS + 1), UNKNOWN]
    answer = world.feast.get_online_features(world.service, users(*keys)).to_dict()
    assert answer.pop("user_id") == keys
    assert set(answer) == set(NAMES)
    for place, row in enumerate(world.online.read_many(keys[:-1])):
        assert row is not None
        assert {name: answer[name][place] for name in NAMES} == MODEL_VIEW.schema.decode(row.vector)
    assert all(answer[name][-1] is None for name in NAMES)
    own = get_online_features(17, ["user_features:*"])
    assert {name: answer[name][16] for name in NAMES} == own


def test_rows_may_be_asked_for_twice_and_in_any_order(world: World) -> None:
    answer = world.feast.get_online_features(AGE, users(9, 2, UNKNOWN, 9)).to_dict()
    ages = world.matrix.values[:, 0].tolist()
    assert answer == {"user_id": [9, 2, UNKNOWN, 9], "age": [ages[8], ages[1], None, ages[8]]}


def test_an_unknown_user_is_not_found(world: World) -> None:
    assert statuses(world.feast, 1, UNKNOWN) == ["PRESENT", "NOT_FOUND"]


def test_the_asynchronous_read_answers_the_same(world: World) -> None:
    async def read() -> dict[str, list[object]]:
        answer = await world.feast.get_online_features_async(world.service, users(1, UNKNOWN, 3))
        await world.feast.provider.online_store.close()
        return answer.to_dict()

    expected = world.feast.get_online_features(world.service, users(1, UNKNOWN, 3)).to_dict()
    assert asyncio.run(read()) == expected
    assert asyncio.run(read()) == expected  # in another event loop


def test_a_view_with_a_ttl_says_what_is_too_old(world: World) -> None:
    view = world.view
    patient, view.ttl = view.ttl, timedelta(days=1)
    try:
        world.feast.apply([view])
        assert statuses(world.feast, 1, UNKNOWN) == ["OUTSIDE_MAX_AGE", "NOT_FOUND"]
        answer = world.feast.get_online_features(AGE, users(1)).to_dict(True)
        assert answer["age"] == [None]
        assert answer["age__ts"][0] > START.timestamp()
    finally:
        view.ttl = patient
        world.feast.apply([view])
    assert statuses(world.feast, 1) == ["PRESENT"]


def test_materialize_writes_the_bytes_that_the_pipeline_wrote(world: World) -> None:
    before = world.packed_rows()
    assert len(before) == USERS
    world.redis.flushdb()
    world.feast.materialize(START, END)
    assert world.packed_rows() == before


def test_materialize_takes_the_events_of_a_half_open_range(world: World) -> None:
    world.redis.flushdb()
    first = world.matrix.times[0].item().replace(tzinfo=UTC)
    world.feast.materialize(first - timedelta(hours=1), first)
    assert world.online.read_many([1]) == [None]
    world.feast.materialize(first, first + timedelta(seconds=1))
    assert world.online.read(1).vector.tobytes() == world.matrix.values[0].tobytes()


def test_materialize_incremental_goes_on_where_the_last_one_ended(world: World) -> None:
    world.redis.flushdb()
    middle = datetime(2030, 1, 1, tzinfo=UTC)
    world.feast.materialize(END, middle)
    late = replace(world.matrix.rows(np.array([0])), times=np.array(["2030-01-01"], "M8[us]"))
    world.offline.append(late, MODEL_VIEW.entity, CREATED)
    world.feast.materialize_incremental(middle + timedelta(days=1))
    assert list(world.packed_rows()) == [world.online.key(1).encode()]


def test_feasts_own_engine_writes_every_row_too(world: World) -> None:
    expected = world.feast.get_online_features(world.service, users(*range(1, 301))).to_dict()
    world.redis.flushdb()
    world.feast_with(batch_engine=STOCK_ENGINE).materialize(START, END)
    assert len(world.packed_rows()) == USERS
    answer = world.feast.get_online_features(world.service, users(*range(1, 301))).to_dict()
    assert answer == expected


def test_an_older_row_never_replaces_a_newer_one(world: World) -> None:
    before = world.packed_rows()
    world.feast.materialize(START, datetime(2022, 1, 1, tzinfo=UTC))
    assert world.packed_rows() == before


def test_deleting_a_view_deletes_its_rows_only(world: World) -> None:
    world.redis.set("fti:other:1", b"kept")
    store, config = world.feast.provider.online_store, world.feast.config
    store.update(config, [world.view], [], [], [], partial=False)
    assert world.redis.keys("*") == [b"fti:other:1"]


def test_a_view_that_cannot_be_packed_is_refused_when_it_is_applied(world: World) -> None:
    item = Entity(name="item", join_keys=["item"], value_type=ValueType.INT64)
    source = PostgreSQLSource(name="items", table="items", timestamp_field="at")
    fields = [Field(name="item", dtype=Int64), Field(name="n", dtype=Int64)]
    view = FeatureView(name="item_views", entities=[item], schema=fields, source=source)
    with pytest.raises(UnknownFeature, match="'item_views' is not defined in feature_store"):
        world.feast.apply([item, view])
    world.feast.registry.delete_feature_view("item_views", world.feast.project)


@pytest.fixture
def silent_redis() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


def test_no_read_waits_longer_than_its_deadline(world: World, silent_redis: str) -> None:
    online = world.feast.config.online_config | {"url": silent_redis, "read_deadline_ms": 100}
    feast = world.feast_with(online_store=online)
    feast.get_feature_view(MODEL_VIEW.name)
    start = time.perf_counter()
    with pytest.raises(StoreUnavailable, match="Redis did not"):
        feast.get_online_features(AGE, users(1))
    assert time.perf_counter() - start < 1.0
    with pytest.raises(StoreUnavailable, match="Redis did not"):
        asyncio.run(feast.get_online_features_async(AGE, users(1)))
    assert time.perf_counter() - start < 2.0
