"""Views of a Feast user's own in our online store: every type and key, whole rows, newest wins."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal as Number
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource, ValueType
from feast.data_source import PushMode
from feast.feature_server import get_app
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
)
from feast.on_demand_feature_view import on_demand_feature_view
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RegistryConfig
from feast.types import (
    Array,
    Bool,
    Bytes,
    Decimal,
    Float32,
    Float64,
    Int32,
    Int64,
    Json,
    Map,
    Set,
    String,
    Struct,
    UnixTimestamp,
    Uuid,
)

from feature_store.errors import InvalidEvent, InvalidValue, SchemaMismatch, StoreUnavailable
from feature_store.feast_plugin.online.foreign_rows import key_bytes, prefix_of
from feature_store.feast_plugin.online.planned_response import PlannedResponse
from feature_store.feature_definitions import MODEL_VIEW
from tests.worlds import faulty_servers
from tests.worlds.feast import CREATED, World, by_feast, foreign_view, make_table, outcome, served
from tests.worlds.feast_tables import DRIVER, KEYS, NOON, TYPES, make, source

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")
PUSHED: dict[str, tuple[Any, Any]] = {
    "a_uuid": (Uuid, ID),
    "a_decimal": (Decimal, Number("1.10")),
    "some_json": (Json, {"a": [1, None]}),
    "a_map": (Map, {"a": "b"}),
    "a_struct": (Struct({"x": Int64, "y": String}), {"x": 1, "y": "z"}),
    "a_set": (Set(Int64), {1, 2}),
    "nested": (Array(Array(Int64)), [[1], [2, 3]]),
    "vector": (Array(Float32), [0.5, 0.25]),
    "nothing": (Int64, None),
}
"""Types that no source of PostgreSQL infers, and a value."""


@pytest.fixture
def feast(world: World, tmp_path: Path) -> Iterator[FeatureStore]:
    """A Feast project of somebody's own over our servers."""
    registry = RegistryConfig(path=str(tmp_path / "registry.db"))
    yield world.feast_with(project="drivers", registry=registry)
    for key in world.redis.keys("drivers:*"):
        world.redis.delete(key)


def view(fields: dict[str, Any], *entities: Entity, **options: Any) -> FeatureView:
    """A view that is pushed to; nothing reads its table."""
    types = {ValueType.INT64: Int64, ValueType.STRING: String, ValueType.BYTES: Bytes}
    keys = [Field(name=each.join_key, dtype=types[each.value_type]) for each in entities]
    table = PostgreSQLSource(
        name="unread", table="unread", timestamp_field="at", created_timestamp_column="known"
    )
    given = {"name": "stats", "source": PushSource(name="stats_push", batch_source=table)}
    schema = [*keys, *(Field(name=name, dtype=dtype) for name, dtype in fields.items())]
    return FeatureView(schema=schema, entities=list(entities), **(given | options))


def push(feast: FeatureStore, *, at: datetime = NOW, known: datetime = NOW, **row: Any) -> None:
    frame = pd.DataFrame({name: [value] for name, value in row.items()})
    feast.push("stats_push", frame.assign(at=at, known=known), to=PushMode.ONLINE)


def read(feast: FeatureStore, *names: str, **key: Any) -> list[Any]:
    """Values of one entity."""
    refs = [name if ":" in name else f"stats:{name}" for name in names]
    found = feast.get_online_features(refs, [key or {}]).to_dict()
    return [found[name.split(":")[-1]][0] for name in names]


def refuse_difference(feast: FeatureStore, refs: list[str], rows: list[dict[str, Any]]) -> None:
    """Check that a planned answer is that of Feast's own way."""
    for full_names in (False, True):
        asked = {"full_feature_names": full_names}
        expected = outcome(lambda a=asked: by_feast(feast, refs, rows, **a))
        assert outcome(lambda a=asked: feast.get_online_features(refs, rows, **a)) == expected
        assert expected[0] == "answered"


def statuses(feast: FeatureStore, *names: str, **key: Any) -> list[str]:
    answer = feast.get_online_features([f"stats:{name}" for name in names], [key]).proto
    places = [list(answer.metadata.feature_names.val).index(name) for name in names]
    return [FieldStatus.Name(answer.results[place].statuses[0]) for place in places]


def test_every_type_of_a_table_is_materialized(world: World, feast: FeatureStore) -> None:
    columns = KEYS | {name: kind for name, (kind, _, _) in TYPES.items()}
    values = {name: value for name, (_, _, value) in TYPES.items()}
    table = make(world, columns, (1, NOON, NOON, *values.values()), (2, NOON, NOON, *[None] * 16))
    schema = [Field(name="driver_id", dtype=Int64)]
    schema += [Field(name=name, dtype=dtype) for name, (_, dtype, _) in TYPES.items()]
    one = FeatureView(name="stats", entities=[DRIVER], schema=schema, source=source(table))
    feast.apply([DRIVER, one])
    assert statuses(feast, *TYPES, driver_id=1) == ["NOT_FOUND"] * 16
    feast.materialize(NOON - DAY, NOON + DAY)
    assert dict(zip(TYPES, read(feast, *TYPES, driver_id=1), strict=True)) == values
    assert statuses(feast, *TYPES, driver_id=1) == ["PRESENT"] * 16
    assert read(feast, *TYPES, driver_id=2) == [None] * 16
    assert statuses(feast, *TYPES, driver_id=2) == ["NULL_VALUE"] * 16
    refuse_difference(feast, [f"stats:{name}" for name in TYPES], [{"driver_id": 1}])


def test_uuids_of_a_table_are_values_and_keys(world: World, feast: FeatureStore) -> None:
    times = {"at": "timestamptz", "known": "timestamptz"}
    columns = {"k": "uuid"} | times | {"one": "uuid", "several": "uuid[]", "n": "integer"}
    table = make(world, columns, (ID, NOON, NOON, ID, [ID, ID], 5))
    key = Entity(name="k", join_keys=["k"], value_type=ValueType.UUID)
    schema = [Field(name="k", dtype=Uuid), Field(name="one", dtype=Uuid)]
    schema += [Field(name="several", dtype=Array(Uuid)), Field(name="n", dtype=Int32)]
    one = FeatureView(name="stats", entities=[key], schema=schema, source=source(table))
    feast.apply([key, one])
    feast.materialize(NOON - DAY, NOON + DAY)
    for asked in (ID, str(ID)):
        assert read(feast, "one", "several", "n", k=asked) == [ID, [ID, ID], 5]
    rows = pd.DataFrame({"k": [str(ID)], "event_timestamp": [NOON]})
    refs = ["stats:one", "stats:several", "stats:n"]
    history = feast.get_historical_features(rows, refs).to_arrow()
    values = [history[name][0].as_py() for name in ("one", "several", "n")]
    assert values == [str(ID), [str(ID)] * 2, 5]


def test_missing_values_are_null_and_so_said(world: World, feast: FeatureStore) -> None:
    table = make(world, KEYS | {"n": "bigint", "t": "text"}, (1, NOON, NOON, None, None))
    fields = [Field(name="driver_id", dtype=Int64), Field(name="n", dtype=Int64)]
    fields.append(Field(name="t", dtype=String))
    one = FeatureView(name="stats", entities=[DRIVER], schema=fields, source=source(table))
    feast.apply([DRIVER, one])
    feast.materialize_incremental(NOW)
    assert read(feast, "n", "t", driver_id=1) == [None, None]
    assert statuses(feast, "n", "t", driver_id=1) == ["NULL_VALUE"] * 2


def test_every_other_type_is_pushed(feast: FeatureStore) -> None:
    fields = {name: dtype for name, (dtype, _) in PUSHED.items()}
    feast.apply([DRIVER, view(fields, DRIVER)])
    values = {name: value for name, (_, value) in PUSHED.items()}
    # What pandas and Arrow have no type for, Feast takes as text and as a list.
    given = {"a_set": [1, 2], "a_uuid": str(ID), "some_json": '{"a": [1, null]}'}
    push(feast, driver_id=1, **values | given)
    found = dict(zip(PUSHED, read(feast, *PUSHED, driver_id=1), strict=True))
    assert found == values
    refuse_difference(feast, [f"stats:{name}" for name in PUSHED], [{"driver_id": 1}])


KEY_CASES: dict[str, dict[str, tuple[ValueType, Any, Any]]] = {
    "whole": {"a": (ValueType.INT64, 7, 8)},
    "text": {"a": (ValueType.STRING, "Ünï:*", "Ünï")},
    "bytes": {"a": (ValueType.BYTES, b"\x00\xff", b"\x00")},
    "composite": {"b": (ValueType.STRING, "1", "12"), "a": (ValueType.INT64, 23, 3)},
    "nobody": {},
}


@pytest.mark.parametrize("case", KEY_CASES)
def test_every_kind_of_key_has_a_row_of_its_own(feast: FeatureStore, case: str) -> None:
    parts = KEY_CASES[case]
    entities = [Entity(name=n, join_keys=[n], value_type=kind) for n, (kind, *_) in parts.items()]
    feast.apply([*entities, view({"n": Int64}, *entities)])
    keys = [{name: part[place] for name, part in parts.items()} for place in (1, 2)]
    push(feast, n=1, **keys[0])
    refs = ["stats:n"]
    rows = [*keys, dict(reversed(keys[0].items()))] if parts else [{}]
    if not parts:
        assert feast.get_online_features(refs, [{"nothing": 1}]).to_dict()["n"] == [1]
        return
    assert feast.get_online_features(refs, rows[:2]).to_dict()["n"] == [1, None]
    assert feast.get_online_features(refs, rows[2:]).to_dict()["n"] == [1]

    async def later() -> list[Any]:
        answer = await feast.get_online_features_async(refs, rows[:2])
        await feast.provider.online_store.close()
        return answer.to_dict()["n"]

    assert asyncio.run(later()) == [1, None]


def test_keys_of_other_types_and_orders_are_told_apart() -> None:
    def bytes_of(**parts: Value) -> bytes:
        return key_bytes(EntityKey(join_keys=list(parts), entity_values=list(parts.values())))

    one, text = Value(int64_val=1), Value(string_val="1")
    values = (one, text, Value(bytes_val=b"1"), Value(uuid_val="1"), Value(double_val=1))
    assert len({bytes_of(a=value) for value in values}) == len(values)
    assert bytes_of(a=one, b=text) == bytes_of(b=text, a=one) != bytes_of(a=text, b=one)
    assert bytes_of(a=Value(int32_val=1)) == bytes_of(a=one)
    ambiguous = (("a", "bc"), ("ab", "c"), ("abc", ""))
    pairs = [(Value(string_val=x), Value(string_val=y)) for x, y in ambiguous]
    assert len({bytes_of(a=x, b=y) for x, y in pairs}) == 3


def test_the_newest_event_wins_then_what_was_learned_last(feast: FeatureStore) -> None:
    feast.apply([DRIVER, view({"n": Int64}, DRIVER)])
    writes = [
        *((NOW - HOUR, NOW, 1), (NOW - 2 * HOUR, NOW, 2), (NOW - HOUR, NOW - HOUR, 3)),
        *((NOW - HOUR, NOW + HOUR, 4), (NOW, NOW - DAY, 5), (NOW, NOW - DAY, 6)),
    ]
    expected = [1, 1, 1, 4, 5, 6]
    for (at, known, n), seen in zip(writes, expected, strict=True):
        push(feast, driver_id=1, n=n, at=at, known=known)
        assert read(feast, "n", driver_id=1) == [seen]
    batch = pd.DataFrame({"driver_id": [2, 2, 2], "n": [1, 2, 3], "known": NOW})
    batch["at"] = [NOW - HOUR, NOW, NOW - 2 * HOUR]
    feast.write_to_online_store("stats", batch)
    assert read(feast, "n", driver_id=2) == [2]


def test_a_row_is_never_half_visible(feast: FeatureStore) -> None:
    names = [f"n{place}" for place in range(8)]
    feast.apply([DRIVER, view(dict.fromkeys(names, Int64), DRIVER)])
    push(feast, driver_id=1, at=NOW - DAY, **dict.fromkeys(names, 0))
    done = threading.Event()

    def write() -> None:
        for number in range(1, 60):
            at = NOW - DAY + number * timedelta(seconds=1)
            push(feast, driver_id=1, at=at, **dict.fromkeys(names, number))
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not done.is_set():
        assert len(set(read(feast, *names, driver_id=1))) == 1
    thread.join()
    assert read(feast, *names, driver_id=1) == [59] * 8


def test_a_row_older_than_the_ttl_has_its_time_and_no_values(feast: FeatureStore) -> None:
    feast.apply([DRIVER, view({"n": Int64}, DRIVER, ttl=DAY)])
    push(feast, driver_id=1, n=1, at=NOW - 2 * DAY)
    assert read(feast, "n", driver_id=1) == [None]
    assert statuses(feast, "n", driver_id=1) == ["OUTSIDE_MAX_AGE"]
    key = EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=1)])
    store, registered = feast.provider.online_store, feast.get_feature_view("stats")
    assert store.online_read(feast.config, registered, [key]) == [(None, None)]
    feast.apply([view({"n": Int64}, DRIVER, ttl=3 * DAY)])
    assert read(feast, "n", driver_id=1) == [1]


def test_a_field_that_changed_is_missing_until_it_is_written_again(feast: FeatureStore) -> None:
    feast.apply([DRIVER, view({"kept": Int64, "retyped": Int64, "gone": Int64}, DRIVER)])
    push(feast, driver_id=1, kept=1, retyped=2, gone=3, at=NOW - HOUR)
    feast.apply([view({"kept": Int64, "retyped": String, "added": Int64}, DRIVER)])
    names = ("kept", "retyped", "added")
    assert read(feast, *names, driver_id=1) == [1, None, None]
    assert statuses(feast, *names, driver_id=1) == ["PRESENT", "NOT_FOUND", "NOT_FOUND"]
    push(feast, driver_id=1, kept=4, retyped="x", added=5)
    assert read(feast, *names, driver_id=1) == [4, "x", 5]


def test_a_field_that_was_added_comes_with_the_next_materialize(
    world: World, feast: FeatureStore
) -> None:
    table = make(world, KEYS | {"n": "integer", "t": "text"}, (1, NOON, NOON, 7, "x"))
    feast.apply([DRIVER, view({"n": Int32}, DRIVER, source=source(table))])
    feast.materialize(NOON - DAY, NOON + DAY)
    feast.apply([view({"n": Int32, "t": String}, DRIVER, source=source(table))])
    assert read(feast, "n", "t", driver_id=1) == [7, None]
    feast.materialize(NOON - DAY, NOON + DAY)
    assert read(feast, "n", "t", driver_id=1) == [7, "x"]


def test_a_value_of_another_type_is_refused(feast: FeatureStore) -> None:
    feast.apply([DRIVER, view({"n": Int64, "t": String}, DRIVER)])
    store, registered = feast.provider.online_store, feast.get_feature_view("stats")
    key = EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=1)])

    def write(**values: Value) -> None:
        rows = [(key, {"n": Value(int64_val=1)}, NOW, None), (key, values, NOW, None)]
        store.online_write_batch(feast.config, registered, rows, None)

    with pytest.raises(InvalidValue, match="'stats:n' is a string_val, expected int64_val"):
        write(n=Value(string_val="1"))
    with pytest.raises(InvalidValue, match=r"'m' is no feature of 'stats'\. Known: n, t"):
        write(m=Value(int64_val=1))
    with pytest.raises(InvalidValue, match=r"beyond 2\*\*53 lose digits"):
        store.online_write_batch(
            feast.config, registered,
            [(key, {"n": Value(int64_val=2**53)}, NOW, None), (key, {}, NOW, None)], None,
        )  # fmt: skip
    with pytest.raises(InvalidEvent, match="1 of 1 rows of 'stats' have not happened yet"):
        push(feast, driver_id=1, n=1, t="x", at=NOW + DAY)
    assert read(feast, "n", driver_id=1) == [None]


def test_a_row_without_a_key_or_a_time_is_refused(feast: FeatureStore) -> None:
    feast.apply([DRIVER, view({"n": Int64}, DRIVER)])
    rows = pd.DataFrame({"driver_id": [1, None], "n": [1, 2], "at": NOW, "known": NOW})
    with pytest.raises(InvalidValue, match=r"Row 2 of 'stats' has no key \(driver_id\)"):
        feast.write_to_online_store("stats", rows)
    times = rows.assign(driver_id=[1, 2], at=[NOW, None])
    with pytest.raises(InvalidValue, match="Row 2 of 'stats' has no event time"):
        feast.write_to_online_store("stats", times)
    assert read(feast, "n", driver_id=1) == [None]


def test_numbers_of_another_width_keep_their_digits(feast: FeatureStore) -> None:
    feast.apply([DRIVER, view({"x": Float32, "n": Int32, "xs": Array(Float32)}, DRIVER)])
    store, registered = feast.provider.online_store, feast.get_feature_view("stats")
    key = EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=1)])
    values = {"x": Value(double_val=0.1), "n": Value(int64_val=2**40)}
    values["xs"] = Value(double_list_val={"val": [0.1]})
    store.online_write_batch(feast.config, registered, [(key, values, NOW, None)], None)
    assert read(feast, "x", "n", "xs", driver_id=1) == [0.1, 2**40, [0.1]]
    refuse_difference(feast, ["stats:x", "stats:n", "stats:xs"], [{"driver_id": 1}])


def test_rows_of_an_on_demand_view_that_is_written_are_read(feast: FeatureStore) -> None:
    """Feast hands over their key as one of the features."""
    stats = view({"price": Float64}, DRIVER)

    @on_demand_feature_view(
        entities=[DRIVER], sources=[stats], schema=[Field(name="dear", dtype=Float64)],
        write_to_online_store=True, mode="pandas",
    )  # fmt: skip
    def dearer(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(dear=frame["price"] + 10)

    feast.apply([DRIVER, stats, dearer])
    row = {"driver_id": [1], "price": [5.0], "at": [NOW], "known": [NOW]}
    made = feast._transform_on_demand_feature_view_df(dearer, pd.DataFrame(row))
    feast.write_to_online_store("dearer", made)
    assert read(feast, "dearer:dear", driver_id=1) == [15]
    assert read(feast, "dearer:dear", driver_id=2) == [None]


def test_projects_and_views_do_not_share_rows(
    world: World, feast: FeatureStore, tmp_path: Path
) -> None:
    other = world.feast_with(
        project="drivers_2", registry=RegistryConfig(path=str(tmp_path / "other.db"))
    )
    names = ("stats", "stats?", "stats*", "stats_2")
    tables = [
        view({"n": Int64}, DRIVER, name=name, source=PushSource(
            name=f"{name}_push", batch_source=view({"n": Int64}, DRIVER).batch_source
        ))
        for name in names
    ]  # fmt: skip
    for each in (feast, other):
        each.apply([DRIVER, *tables])
        for number, name in enumerate(names):
            row = {"driver_id": [1], "n": [number], "at": [NOW], "known": [NOW]}
            each.write_to_online_store(name, pd.DataFrame(row))
    store = feast.provider.online_store
    key = EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=1)])

    def held(of: FeatureStore) -> list[int | None]:
        rows = [store.online_read(of.config, table, [key])[0][1] for table in tables]
        return [None if row is None else row["n"].int64_val for row in rows]

    assert held(feast) == held(other) == [0, 1, 2, 3]
    feast.apply([], objects_to_delete=[tables[2]], partial=False)
    assert held(feast) == [0, 1, None, 3]
    assert held(other) == [0, 1, 2, 3]
    feast.teardown()
    assert held(feast) == [None] * 4
    assert held(other) == [0, 1, 2, 3]
    other.teardown()
    assert not world.redis.keys("drivers*")


def test_a_namesake_of_ours_has_rows_of_its_own(world: World, tmp_path: Path) -> None:
    make_table(world.offline.postgres, "namesakes_online", 99)
    world.online.write(world.matrix, CREATED)
    before = world.packed_rows()
    registry = RegistryConfig(path=str(tmp_path / "registry.db"))
    same_project = world.feast_with(registry=registry)
    same_project.apply([world.objects["entity"], foreign_view("namesakes_online")])
    same_project.materialize(NOW - 2 * DAY, NOW)
    refs, rows = [f"{MODEL_VIEW.name}:age"], [{"user_id": 1}]
    assert same_project.get_online_features(refs, rows).to_dict()["age"] == [99]
    assert world.feast.get_online_features(refs, rows).to_dict()["age"] != [99]
    assert world.packed_rows() == before
    same_project.teardown()
    assert not world.redis.keys(prefix_of("fti", MODEL_VIEW.name) + b"*")
    assert world.packed_rows() == before


def test_own_views_and_ours_come_in_one_round_trip(world: World) -> None:
    world.online.write(world.matrix, CREATED)
    user = world.objects["entity"]
    own = view({"n": Int64}, user, name="marks")
    world.feast.apply([own])
    try:
        row = {"user_id": [1], "n": [5], "at": [NOW], "known": [NOW]}
        world.feast.write_to_online_store("marks", pd.DataFrame(row))
        refs, rows = [f"{MODEL_VIEW.name}:age", "marks:n"], [{"user_id": 1}, {"user_id": 2}]
        calls = world.redis.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"]
        found = world.feast.get_online_features(refs, rows).to_dict()
        assert world.redis.info("commandstats")["cmdstat_mget"]["calls"] == calls + 1
        assert found["n"] == [5, None]
        assert found["age"] == world.feast.get_online_features(refs[:1], rows).to_dict()["age"]
    finally:
        world.feast.apply([], objects_to_delete=[own], partial=False)
    assert not world.redis.keys("fti:feast-view:*")


def test_the_server_answers_for_own_views(feast: FeatureStore) -> None:
    feast.apply([DRIVER, view({"n": Int64, "t": String}, DRIVER)])
    push(feast, driver_id=1, n=2**53 + 1, t="Ünï")
    body = {"features": ["stats:n", "stats:t"], "entities": {"driver_id": [1, 2]}}
    with served(get_app(feast)) as client:
        answer = client.post("/get-online-features", json=body).json()
    values = {
        name: each["values"]
        for name, each in zip(answer["metadata"]["feature_names"], answer["results"], strict=True)
    }
    assert values == {"driver_id": [1, 2], "n": [2**53 + 1, None], "t": ["Ünï", None]}


def test_every_way_to_read_says_the_same(feast: FeatureStore) -> None:
    feast.apply([DRIVER, view({"n": Int64, "t": UnixTimestamp}, DRIVER, ttl=DAY)])
    push(feast, driver_id=1, n=1, t=NOON)
    push(feast, driver_id=2, n=2, t=None, at=NOW - 2 * DAY)
    rows = [{"driver_id": key} for key in (2, 1, 3, 1)]
    for refs in (["stats:n"], ["stats:t", "stats:n"]):
        refuse_difference(feast, refs, rows)
    texts = [{"driver_id": str(row["driver_id"])} for row in rows]
    planned, own_way = (feast.get_online_features(["stats:n"], each) for each in (rows, texts))
    assert isinstance(planned, PlannedResponse)
    assert not isinstance(own_way, PlannedResponse)
    assert own_way.proto == planned.proto


def test_feasts_other_null_is_null(feast: FeatureStore) -> None:
    feast.apply([DRIVER, view({"n": Int64}, DRIVER)])
    key = EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=1)])
    store, registered = feast.provider.online_store, feast.get_feature_view("stats")
    store.online_write_batch(
        feast.config, registered, [(key, {"n": Value(null_val=0)}, NOW, None)], None
    )
    assert read(feast, "n", driver_id=1) == [None]
    assert statuses(feast, "n", driver_id=1) == ["NULL_VALUE"]


def test_what_is_no_such_row_is_refused(world: World, feast: FeatureStore) -> None:
    feast.apply([DRIVER, view({"n": Int64}, DRIVER)])
    push(feast, driver_id=1, n=1)
    push(feast, driver_id=2, n=2)
    one, two = sorted(world.redis.keys("drivers:*"))
    row = world.redis.get(one)
    for broken in (world.redis.get(two), row[:20], b"feastro2" + row[8:], row[:16]):
        world.redis.set(one, broken)
        with pytest.raises(SchemaMismatch, match="'stats' is no such row"):
            read(feast, "n", driver_id=1)
    push(feast, driver_id=1, n=3)
    assert read(feast, "n", driver_id=1) == [3]


@pytest.mark.parametrize("kind", ["silent", "dribbling"])
def test_a_read_ends_with_its_deadline(feast: FeatureStore, world: World, kind: str) -> None:
    with getattr(faulty_servers, kind)() as url:
        online = feast.config.online_config | {"url": url, "read_deadline_ms": 50}
        registry = feast.config.registry_config
        slow = world.feast_with(project="drivers", registry=registry, online_store=online)
        slow.registry.apply_entity(DRIVER, "drivers")
        slow.registry.apply_feature_view(view({"n": Int64}, DRIVER), "drivers")
        with pytest.raises(StoreUnavailable, match=r"no answer within 50 ms|did not read"):
            read(slow, "n", driver_id=1)


def test_another_offline_store_may_stand_beside(world: World, tmp_path: Path) -> None:
    rows = {"driver_id": [1, 2], "n": [1, 2], "at": [NOON, NOON]}
    pd.DataFrame(rows).to_parquet(tmp_path / "rows.parquet")
    registry = RegistryConfig(path=str(tmp_path / "registry.db"))
    feast = world.feast_with(
        project="drivers", registry=registry, offline_store={"type": "file"}, batch_engine="local"
    )
    table = FileSource(name="rows", path=str(tmp_path / "rows.parquet"), timestamp_field="at")
    feast.apply([DRIVER, view({"n": Int64}, DRIVER, source=table)])
    feast.materialize(NOON - DAY, NOON + DAY)
    assert read(feast, "n", driver_id=2) == [2]
    feast.teardown()
    assert not world.redis.keys("drivers:*")


def test_materialize_goes_on_where_the_last_one_ended(world: World, feast: FeatureStore) -> None:
    table = make(
        world, KEYS | {"n": "integer"}, (1, NOW - 2 * HOUR, NOW, 1), (2, NOW - HOUR, NOW, 2)
    )
    one = view({"n": Int32}, DRIVER, source=source(table))
    feast.apply([DRIVER, one])
    feast.materialize(NOW - DAY, NOW - HOUR)
    assert read(feast, "n", driver_id=1) == [1]
    assert read(feast, "n", driver_id=2) == [None]
    feast.materialize_incremental(NOW)
    assert read(feast, "n", driver_id=2) == [2]


def test_many_rows_are_written_in_batches(world: World, feast: FeatureStore) -> None:
    feast.apply([DRIVER, view({"n": Int64, "x": Float64, "b": Bool}, DRIVER)])
    numbers = np.arange(3_000)
    frame = pd.DataFrame(
        {"driver_id": numbers, "n": numbers, "x": numbers / 3, "b": numbers % 2 > 0}
    )
    feast.write_to_online_store("stats", frame.assign(at=NOW, known=NOW))
    rows = [{"driver_id": int(number)} for number in numbers]
    found = feast.get_online_features(["stats:n", "stats:x", "stats:b"], rows).to_dict()
    assert found["n"] == numbers.tolist()
    assert found["x"] == (numbers / 3).tolist()
    assert found["b"] == (numbers % 2 > 0).tolist()
