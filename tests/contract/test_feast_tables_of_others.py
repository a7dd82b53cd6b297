"""Tables of a Feast user's own: read, inferred and written in their own types, whatever they are.

These are the checks that Feast holds every offline store of its own to, in our words.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, PushSource, ValueType
from feast.data_source import PushMode
from feast.repo_config import RegistryConfig
from feast.types import (
    Array,
    Float32,
    Float64,
    Int32,
    Int64,
    Json,
    Map,
    String,
    Struct,
)

from feature_store.errors import FeatureStoreError, StoreUnavailable
from tests.worlds.feast import World
from tests.worlds.feast_tables import DAY, DRIVER, KEYS, NOON, TYPES, make, source


@pytest.fixture
def feast(world: World, tmp_path: Path) -> Iterator[FeatureStore]:
    """A Feast project of somebody else's in our database."""
    registry = RegistryConfig(path=str(tmp_path / "registry.db"))
    return world.feast_with(project="drivers", registry=registry)


def view(where: Any, fields: dict[str, Any], **options: Any) -> FeatureView:
    schema = [Field(name="driver_id", dtype=Int64)] if options.get("entities", True) else []
    schema += [Field(name=name, dtype=dtype) for name, dtype in fields.items()]
    given = {"name": "stats", "entities": [DRIVER], "schema": schema, "source": where}
    return FeatureView(**(given | {"online": False} | options))


def read(feast: FeatureStore, *features: str, when: datetime = NOON, **options: Any) -> pa.Table:
    rows = pd.DataFrame({"driver_id": [1], "event_timestamp": [when]})
    refs = [f"stats:{name}" for name in features]
    return feast.get_historical_features(rows, refs, **options).to_arrow()


@pytest.fixture
def all_types(world: World) -> str:
    """A table with one row of every type."""
    columns = KEYS | {name: kind for name, (kind, _, _) in TYPES.items()}
    return make(world, columns, (1, NOON, NOON, *(value for _, _, value in TYPES.values())))


def test_every_type_is_inferred_and_read(feast: FeatureStore, all_types: str) -> None:
    feast.apply([DRIVER, view(source(all_types), {}, schema=[])])
    inferred = {field.name: field.dtype for field in feast.get_feature_view("stats").features}
    assert inferred == {name: dtype for name, (_, dtype, _) in TYPES.items()}
    table = read(feast, *TYPES)
    values = {name: table[name].to_pylist()[0] for name in TYPES}
    assert values == {name: value for name, (_, _, value) in TYPES.items()}


def test_every_type_is_written_and_read_back(feast: FeatureStore, all_types: str) -> None:
    feast.apply([DRIVER, view(source(all_types), {}, schema=[])])
    row = {name: [value] for name, (_, _, value) in TYPES.items()}
    late = NOON + DAY
    frame = pd.DataFrame({"driver_id": [1], "at": [late], "known": [late]} | row)
    feast.write_to_offline_store("stats", frame.assign(a_text="later"))
    table = read(feast, *TYPES, when=late)
    values = {name: table[name].to_pylist()[0] for name in TYPES}
    expected = {name: value for name, (_, _, value) in TYPES.items()}
    assert values == expected | {"a_text": "later"}


@pytest.mark.parametrize("there", [True, False], ids=["found", "not found"])
def test_a_number_that_is_stored_wider_than_declared_keeps_its_digits(
    world: World, feast: FeatureStore, there: bool
) -> None:
    columns = KEYS | {"rate": "double precision", "n": "bigint", "rates": "double precision[]"}
    key = 1 if there else 2
    table = make(world, columns, (key, NOON, NOON, 0.1, 2**40, [0.1]))
    fields = {"rate": Float32, "n": Int32, "rates": Array(Float32)}
    feast.apply([DRIVER, view(source(table), fields)])
    found = read(feast, *fields)
    assert found.schema.field("rate").type == pa.float64()
    assert found.schema.field("n").type == pa.int64()
    assert found.schema.field("rates").type == pa.list_(pa.float64())
    values = [found[name].to_pylist()[0] for name in fields]
    assert values == ([0.1, 2**40, [0.1]] if there else [None] * 3)


def test_columns_of_a_source_have_other_names_in_a_view(world: World, feast: FeatureStore) -> None:
    columns = {"id": "bigint", "t": "timestamptz", "k": "timestamptz", "r": "real"}
    table = make(
        world, columns, (1, NOON, NOON, 0.5), (1, NOON, NOON + DAY, 0.75), (1, NOON - DAY, NOON, 0)
    )
    mapping = {"id": "driver_id", "t": "at", "k": "known", "r": "rate"}
    where = source(table, field_mapping=mapping)
    feast.apply([DRIVER, view(where, {"rate": Float32})])
    assert read(feast, "rate")["rate"].to_pylist() == [0.75]
    known = read(feast, "rate", filter_by_created_timestamp=True)
    assert known["rate"].to_pylist() == [0.5]
    every = feast.get_historical_features(
        None, ["stats:rate"], start_date=NOON - DAY, end_date=NOON + DAY
    ).to_df()
    assert every.sort_values("event_timestamp")["rate"].tolist() == [0.0, 0.75]


def test_a_view_without_entities_has_one_row_for_everybody(
    world: World, feast: FeatureStore
) -> None:
    columns = {"at": "timestamptz", "known": "timestamptz", "oil": "real"}
    table = make(world, columns, (NOON - DAY, NOON, 60.0), (NOON, NOON, 61.5))
    rates = make(world, KEYS | {"rate": "real"}, (1, NOON, NOON, 0.5))
    market = FeatureView(
        name="market", entities=[], schema=[Field(name="oil", dtype=Float32)],
        source=source(table), ttl=timedelta(days=2), online=False,
    )  # fmt: skip
    feast.apply([DRIVER, market, view(source(rates), {"rate": Float32})])
    rows = pd.DataFrame(
        {"driver_id": [1, 2, 3], "event_timestamp": [NOON, NOON - DAY, NOON + 3 * DAY]}
    )
    refs = ["market:oil", "stats:rate"]
    found = feast.get_historical_features(rows, refs).to_arrow()
    assert found["oil"].to_pylist() == [61.5, 60.0, None]
    assert found["rate"].to_pylist() == [0.5, None, None]
    every = feast.get_historical_features(
        None, ["market:oil"], start_date=NOON - DAY, end_date=NOON + DAY
    ).to_df()
    assert list(every.columns) == ["event_timestamp", "oil"]
    assert every["oil"].tolist() == [60.0, 61.5]
    store = feast.provider.offline_store
    span = "at", "known", NOON - 9 * DAY, NOON + DAY
    newest = store.pull_latest_from_table_or_query(
        feast.config, source(table), [], ["oil"], *span
    ).to_df()
    assert newest["oil"].tolist() == [61.5]
    assert newest["__dummy_id"].tolist() == [""]


def test_rows_that_are_pushed_fit_the_columns_or_are_refused(
    world: World, feast: FeatureStore
) -> None:
    table = make(world, KEYS | {"rate": "double precision", "n": "integer"})
    pushed = PushSource(name="pushed", batch_source=source(table))
    feast.apply([DRIVER, view(pushed, {"rate": Float64, "n": Int32})])
    row = {"driver_id": [1], "at": [NOON], "known": [NOON], "rate": [4], "n": [7.0]}
    feast.push("pushed", pd.DataFrame(row), to=PushMode.OFFLINE)
    found = read(feast, "rate", "n")
    assert [found[name].to_pylist() for name in ("rate", "n")] == [[4.0], [7]]
    for value in (7.5, 2**40):
        with pytest.raises(FeatureStoreError, match=r"Column 'n' holds .*, the table integer: "):
            feast.push("pushed", pd.DataFrame(row | {"n": [value]}), to=PushMode.OFFLINE)
    [stored] = world.offline.postgres.query(f"SELECT count(*) FROM {table}").row(0)
    assert stored == 1


def test_mappings_are_kept_as_json(world: World, feast: FeatureStore) -> None:
    table = make(world, KEYS | {"about": "jsonb", "config": "jsonb", "who": "jsonb"})
    fields = {"about": Map, "config": Json, "who": Struct({"name": String, "age": String})}
    feast.apply([DRIVER, view(source(table), fields)])
    row = {"about": [{"kind": "suv"}], "config": ['{"km": 3}'], "who": [{"name": "A", "age": "3"}]}
    frame = pd.DataFrame({"driver_id": [1], "at": [NOON], "known": [NOON]} | row)
    feast.write_to_offline_store("stats", frame)
    found = read(feast, "about", "config", "who")
    assert found["about"].to_pylist() == [[("kind", "suv")]]
    assert found["config"].to_pylist() == ['{"km": 3}']
    assert found["who"].to_pylist() == [{"name": "A", "age": "3"}]


def test_nothing_is_appended_to_a_query(world: World, feast: FeatureStore) -> None:
    table = make(world, KEYS | {"rate": "real"})
    where = source(table, table=None, query=f"SELECT * FROM {table}")
    feast.apply([DRIVER, view(where, {"rate": Float32})])
    row = {"driver_id": [1], "at": [NOON], "known": [NOON], "rate": [1.0]}
    with pytest.raises(FeatureStoreError, match=r"this source is the query \(SELECT"):
        feast.write_to_offline_store("stats", pd.DataFrame(row))


def test_a_feature_named_like_a_column_of_the_entity_rows_is_refused(
    world: World, feast: FeatureStore
) -> None:
    table = make(world, KEYS | {"rate": "real"}, (1, NOON, NOON, 0.5))
    feast.apply([DRIVER, view(source(table), {"rate": Float32})])
    rows = pd.DataFrame({"driver_id": [1], "event_timestamp": [NOON], "rate": ["high"]})
    with pytest.raises(FeatureStoreError, match="have a column 'rate', and so has the result"):
        feast.get_historical_features(rows, ["stats:rate"])
    found = feast.get_historical_features(rows, ["stats:rate"], full_feature_names=True).to_df()
    assert found["rate"].tolist() == ["high"]
    assert found["stats__rate"].tolist() == [0.5]


def test_an_error_says_what_postgresql_said(world: World, feast: FeatureStore) -> None:
    table = make(world, KEYS | {"rate": "real"})
    feast.apply([DRIVER, view(source(table), {"speed": Float32})])
    with pytest.raises(
        StoreUnavailable, match=r'^PostgreSQL refused: column "speed" does not exist\. Check the'
    ):
        read(feast, "speed")
    feast.apply([DRIVER, view(source("nowhere"), {"speed": Float32})])
    with pytest.raises(StoreUnavailable, match='refused: relation "nowhere" does not exist'):
        read(feast, "speed")
    rows = "SELECT 1 AS driver_id, 1/0 AS event_timestamp"
    with pytest.raises(StoreUnavailable, match=r"refused: division by zero\. Look at the values"):
        feast.get_historical_features(rows, ["stats:speed"])


def test_entity_rows_come_from_a_query(world: World, feast: FeatureStore) -> None:
    table = make(world, KEYS | {"rate": "real"}, (1, NOON, NOON, 0.5), (2, NOON, NOON, 0.25))
    feast.apply([DRIVER, view(source(table), {"rate": Float32})])
    query = f"SELECT driver_id, at AS event_timestamp FROM {table} ORDER BY driver_id DESC"
    found = feast.get_historical_features(query, ["stats:rate"]).to_df()
    assert found["rate"].tolist() == [0.25, 0.5]


def test_rows_of_one_moment_are_told_apart_by_when_they_were_learned(
    world: World, feast: FeatureStore
) -> None:
    rows = [(1, NOON, NOON + n * DAY, rate) for n, rate in ((2, 0.75), (0, 0.25), (1, 0.5))]
    table = make(world, KEYS | {"rate": "real"}, *rows)
    feast.apply([DRIVER, view(source(table), {"rate": Float32})])
    assert read(feast, "rate")["rate"].to_pylist() == [0.75]


@pytest.mark.parametrize("kind", ["text", "uuid", "smallint", "date"])
def test_keys_of_other_types_find_their_rows(world: World, feast: FeatureStore, kind: str) -> None:
    values = {
        "text": ("a", "b"),
        "uuid": ("123e4567-e89b-12d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174001"),
        "smallint": (1, 2),
        "date": (date(2026, 1, 1), date(2026, 1, 2)),
    }[kind]
    columns = KEYS | {"driver_id": kind, "rate": "real"}
    table = make(world, columns, (values[0], NOON, NOON, 0.5), (values[1], NOON, NOON, 0.25))
    entity = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.STRING)
    stats = view(source(table), {"rate": Float32}, schema=[Field(name="rate", dtype=Float32)])
    feast.apply([entity, stats])
    asked = pd.DataFrame({"driver_id": list(reversed(values)), "event_timestamp": [NOON, NOON]})
    found = feast.get_historical_features(asked, ["stats:rate"]).to_df()
    assert np.array_equal(found["rate"], [0.25, 0.5])
