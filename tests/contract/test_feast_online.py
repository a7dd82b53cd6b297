"""Online features through Feast's own client are those of our own calls, from the same bytes."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from feast import FeatureService, FeatureStore
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from feature_store.definitions.engine import Engine
from feature_store.errors import FeatureStoreError, StoreUnavailable
from feature_store.feast_plugin.connections import RedisClients
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.retrieval import get_online_features
from tests.worlds import faulty_servers
from tests.worlds.feast import CREATED, REPO, UNKNOWN, USERS, World

START, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
NAMES = list(MODEL_VIEW.schema.names)
REFS = [f"{MODEL_VIEW.name}:{name}" for name in NAMES]
AGE = [f"{MODEL_VIEW.name}:age"]
STOCK_ENGINE = "local"
ENGINE = Engine(MODEL_VIEW)


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
    middle = datetime(2026, 1, 1, tzinfo=UTC)
    world.feast.materialize(END, middle)
    late = replace(world.matrix.rows(np.array([0])), times=np.array(["2026-01-01"], "M8[us]"))
    world.offline.append(late, MODEL_VIEW.entity, CREATED)
    world.feast.materialize_incremental(middle + timedelta(days=1))
    assert list(world.packed_rows()) == [world.online.key(1).encode()]


def test_an_end_that_lies_ahead_means_now_and_the_next_increment_begins_there(
    world: World,
) -> None:
    ahead, first = datetime(2099, 1, 1, tzinfo=UTC), world.matrix.rows(np.array([0]))
    future = replace(first, times=np.array(["2098-01-01"], "M8[us]"))
    world.offline.append(future, MODEL_VIEW.entity, CREATED)  # as somebody else may write it
    began = datetime.now(UTC)
    world.feast.materialize(START, ahead, ["user_features"])
    history = world.feast.get_historical_features(
        pd.DataFrame({"user_id": [1], "event_timestamp": [datetime.now(UTC)]}),
        ["user_features:age"],
    ).to_df()
    online = world.feast.get_online_features(["user_features:age"], users(1)).to_dict()
    assert online["age"] == history["age"].tolist()
    assert world.online.read(1).event_time_us < began.timestamp() * 1e6
    noted = world.feast.get_feature_view("user_features").most_recent_end_time
    assert noted is not None
    assert began < noted < datetime.now(UTC)
    world.redis.flushdb()
    just_now = replace(first, times=np.array([_naive(datetime.now(UTC))], "M8[us]"))
    world.offline.append(just_now, MODEL_VIEW.entity, CREATED)
    world.feast.materialize_incremental(ahead, ["user_features"])
    assert list(world.packed_rows()) == [world.online.key(1).encode()]
    assert world.online.read(1).event_time_us == just_now.times.astype(np.int64)[0]
    with pytest.raises(FeatureStoreError, match="which lies ahead: nothing has happened since"):
        world.feast.materialize(ahead, ahead + timedelta(days=1), ["user_features"])


def test_another_engine_leaves_no_note_of_an_end_that_lies_ahead(world: World) -> None:
    stock = world.feast_with(batch_engine=STOCK_ENGINE)
    stock.materialize(START, END, ["user_features"])
    world.redis.flushdb()
    stock.materialize(START, datetime(2099, 1, 1, tzinfo=UTC), ["user_features"])
    assert len(world.packed_rows()) == USERS
    noted = world.feast.get_feature_view("user_features").most_recent_end_time
    assert noted is not None
    assert noted <= datetime.now(UTC)


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


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


@pytest.mark.parametrize("kind", ["silent", "dribbling", "full"])
def test_no_read_waits_longer_than_its_deadline(world: World, kind: str) -> None:
    with getattr(faulty_servers, kind)() as url:
        online = world.feast.config.online_config | {"url": url, "read_deadline_ms": 50}
        feast = world.feast_with(online_store=online)
        feast.get_feature_view(MODEL_VIEW.name)
        store, view = feast.provider.online_store, world.view

        async def read_async(times: int) -> None:
            for _ in range(times):
                with late():
                    await feast.get_online_features_async(AGE, users(1))
            await store.close()

        for _ in range(3):
            with late():
                feast.get_online_features(AGE, users(1))
        with late():
            store.online_read(feast.config, view, [entity_key(1)])
        asyncio.run(read_async(3))


@contextmanager
def late() -> Iterator[None]:
    """A read that fails by its deadline of 50 ms, to which a busy machine may add its own."""
    start = time.perf_counter()
    with pytest.raises(StoreUnavailable, match="Redis did not read: "):
        yield
    assert time.perf_counter() - start < 1  # without a deadline: over 4 s, or for ever


def entity_key(user: int) -> EntityKey:
    return EntityKey(join_keys=["user_id"], entity_values=[Value(int64_val=user)])


def test_an_event_loop_goes_on_turning_while_redis_is_silent(world: World) -> None:
    with faulty_servers.silent() as url:
        online = world.feast.config.online_config | {"url": url, "read_deadline_ms": 50}
        feast = world.feast_with(online_store=online)

        async def read() -> int:
            turns = 0
            reading = asyncio.create_task(feast.get_online_features_async(AGE, users(1)))
            while not reading.done():
                await asyncio.sleep(0.005)
                turns += 1
            with pytest.raises(StoreUnavailable, match="no answer within 50 ms"):
                await reading
            return turns

        asyncio.run(feast.provider.initialize(feast.config))
        assert asyncio.run(read()) >= 4


def test_a_late_connection_of_an_event_loop_is_closed_and_never_used_again() -> None:
    async def read(url: str, deadline_ms: float) -> list[bool]:
        clients = RedisClients(url, deadline_ms)
        with pytest.raises(StoreUnavailable, match="Redis did not read: "):
            async with clients.read_in_time_async() as client:
                await client.mget(["a", "b"])
        pool = clients.of_this_loop.connection_pool
        open_ones = [each.is_connected for each in pool._available_connections]
        await clients.close()
        return open_ones

    async def interrupt_at_every_stage() -> list[list[bool]]:
        with faulty_servers.dribbling(greets=True) as url:
            return [await read(url, deadline_ms=0.2 + n / 12) for n in range(150)]

    assert [n for n, ones in enumerate(asyncio.run(interrupt_at_every_stage())) if any(ones)] == []


def test_a_view_is_read_the_first_time_even_if_the_event_loop_is_its_first_reader(
    world: World,
) -> None:
    async def read() -> list[object]:
        feast = FeatureStore(repo_path=str(REPO))
        await feast.initialize()
        answer = await feast.get_online_features_async(AGE, users(1))
        await feast.close()
        return answer.to_dict()["age"]

    assert asyncio.run(read()) == [50]


def test_a_missing_value_in_a_row_is_null_and_each_view_tells_of_its_own_rows(
    world: World,
) -> None:
    refs = ["user_features:age", "user_features:sex", "user_features_on_request:hours_per_week"]
    rows = [
        {"user_id": user, "attributes": request}
        for user, request in ((1, None), (USERS - 1, None), (UNKNOWN, '{"hours_per_week": 40}'))
    ]
    for proto in (
        world.feast.get_online_features(refs, rows).proto,
        asyncio.run(world.feast.get_online_features_async(refs, rows)).proto,
    ):
        names = proto.metadata.feature_names.val
        answer = {
            name: [FieldStatus.Name(status) for status in result.statuses]
            for name, result in zip(names, proto.results, strict=True)
        }
        assert answer == {
            "user_id": ["PRESENT"] * 3,
            "age": ["PRESENT", "PRESENT", "NOT_FOUND"],
            "sex": ["PRESENT", "NULL_VALUE", "NOT_FOUND"],  # it has an age and a workclass only
            "hours_per_week": ["PRESENT", "NULL_VALUE", "PRESENT"],
        }


@dataclass
class Readers:
    """Threads that read users through Feast until they are told to stop, and what went wrong."""

    service: FeatureService
    whole: dict[int, list[dict[str, object]]]
    is_over: threading.Event = field(default_factory=threading.Event)
    failures: list[object] = field(default_factory=list)
    reads: int = 0

    def read(self, feast: FeatureStore, seed: int) -> None:
        random = np.random.default_rng(seed)
        while not self.is_over.is_set():
            keys = random.integers(1, USERS - 1, 5).tolist()
            try:
                answer = feast.get_online_features(self.service, users(*keys)).to_dict()
            except Exception as error:  # noqa: BLE001 - whatever is refused fails the test
                self.failures.append(error)
                continue
            self.reads += 1
            rows = [{name: answer[name][place] for name in NAMES} for place in range(len(keys))]
            torn = [row for key, row in zip(keys, rows, strict=True) if row not in self.whole[key]]
            self.failures.extend(torn)


@pytest.mark.parametrize("kind", ["of_their_own", "shared"])
def test_no_read_is_refused_or_torn_while_rows_are_written(world: World, kind: str) -> None:
    own, decode = world.matrix.rows(np.arange(USERS)), MODEL_VIEW.schema.decode
    aged = ENGINE.overrides(own.values, [{"age": 30}] * USERS)
    whole: dict[int, list[dict[str, object]]] = {key: [] for key in own.keys.tolist()}
    for keys, values in (
        (own.keys, own.values),
        (own.keys, aged),
        (world.matrix.keys, world.matrix.values),
    ):
        for key, vector in zip(keys.tolist(), values, strict=True):
            whole[key].append(dict(decode(vector)))
    readers = Readers(world.service, whole)
    shared = world.feast_with()
    stores = [shared if kind == "shared" else world.feast_with() for _ in range(3)]
    threads = [
        threading.Thread(target=readers.read, args=(feast, seed))
        for seed, feast in enumerate(stores)
    ]
    for thread in threads:
        thread.start()
    writer = shared if kind == "shared" else FeatureStore(repo_path=str(REPO))
    started = time.monotonic()
    for rounds in itertools.count():
        newer = world.matrix.times.max() + np.timedelta64(rounds + 1, "s")
        values = own.values if rounds % 2 else aged
        rows = replace(own, values=values, times=np.full(USERS, newer))
        assert world.online.write(rows, CREATED) == USERS
        writer.materialize(START, END)
        if rounds >= 3 and time.monotonic() - started > 3:
            break
    readers.is_over.set()
    for thread in threads:
        thread.join()
    assert readers.failures == []
    assert readers.reads > 20
