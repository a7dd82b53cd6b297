"""Historical features through Feast's client against looking at every row, whatever the blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, ValueType
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
)
from feast.types import Int64, String
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st

from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline.postgres import BLOCK_BYTES
from tests.worlds.feast import UNKNOWN, World

START = datetime(2026, 1, 1, tzinfo=UTC)
ZONES = ["UTC", "Asia/Tokyo", "America/New_York"]
REGIONS = st.sampled_from(["north", "söuth"])
NUMBERS = st.integers(1, 2)
TIMES = st.integers(0, 9)
READINGS = st.lists(
    st.tuples(st.none() | REGIONS, st.none() | NUMBERS, st.none() | TIMES, TIMES, st.text("abc")),
    max_size=15,
)
ASKED = st.lists(
    st.tuples(st.none() | REGIONS, st.none() | NUMBERS, st.integers(-1, 11)),
    min_size=1,
    max_size=15,
)
USERS = st.lists(
    st.tuples(st.sampled_from([1, 2, 3, 4, UNKNOWN, None]), st.integers(0, 7), st.integers(-1, 1)),
    min_size=1,
    max_size=15,
)

few = hypothesis_settings(
    max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


def aware(seconds: int) -> datetime:
    return START + timedelta(seconds=seconds)


@dataclass
class Sensors:
    """A table of somebody else's: keys of two parts, no index, rows in any order."""

    admin: psycopg.Connection
    feast: FeatureStore

    def store(self, rows: list[tuple[Any, ...]]) -> None:
        self.admin.execute("DELETE FROM readings")
        with self.admin.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO readings VALUES (%s, %s, %s, %s, %s, %s)",
                [
                    (region, number, None if at is None else aware(at), aware(learned), name, place)
                    for place, (region, number, at, learned, name) in enumerate(rows)
                ],
            )


def sensor_view(name: str, ttl: timedelta | None) -> FeatureView:
    region = Entity(name="region", join_keys=["region"], value_type=ValueType.STRING)
    number = Entity(name="number", join_keys=["number"], value_type=ValueType.INT64)
    source = PostgreSQLSource(
        name=f"{name}_source",
        table="readings",
        timestamp_field="at",
        created_timestamp_column="learned",
    )
    fields = {"region": String, "number": Int64, "name": String, "place": Int64}
    return FeatureView(
        name=name,
        entities=[region, number],
        schema=[Field(name=field, dtype=dtype) for field, dtype in fields.items()],
        source=source,
        online=False,
        ttl=ttl,
    )


@pytest.fixture(scope="module", params=[1, BLOCK_BYTES], ids=["one row a block", "one block"])
def feast(request: pytest.FixtureRequest, world: World) -> FeatureStore:
    """Feast over our store, which reads in blocks of a given size."""
    kind = "feature_store.feast_plugin.offline_store.PointInTimeOfflineStore"
    return world.feast_with(offline_store={"type": kind, "block_bytes": request.param})


@pytest.fixture(scope="module")
def sensors(world: World, feast: FeatureStore) -> Iterator[Sensors]:
    views = [sensor_view("forever", None), sensor_view("brief", timedelta(seconds=3))]
    entities = [
        Entity(name="region", join_keys=["region"], value_type=ValueType.STRING),
        Entity(name="number", join_keys=["number"], value_type=ValueType.INT64),
    ]
    with psycopg.connect(world.offline.postgres.url, autocommit=True) as admin:
        admin.execute(
            "CREATE TABLE readings (region text, number integer, at timestamptz, "
            "learned timestamptz, name text, place integer)"
        )
        feast.apply([*entities, *views])
        yield Sensors(admin, feast)
        admin.execute("DROP TABLE readings")


@few
@given(rows=READINGS, asked=ASKED, zone=st.sampled_from(ZONES), known=st.booleans())
def test_foreign_tables_agree_with_looking_at_every_row(
    sensors: Sensors,
    rows: list[tuple[Any, ...]],
    asked: list[tuple[Any, ...]],
    zone: str,
    known: bool,
) -> None:
    sensors.store(rows)
    times = pd.to_datetime([aware(time) for _, _, time in asked]).tz_convert(zone)
    entity_rows = pd.DataFrame(
        {
            "note": np.arange(len(asked)),
            "region": pd.Series([region for region, _, _ in asked], dtype=object),
            "number": pd.Series([number for _, number, _ in asked], dtype="Int64"),
            "event_timestamp": times,
        }
    )
    features = ["forever:name", "forever:place", "brief:place"]
    answer = sensors.feast.get_historical_features(
        entity_rows, features, full_feature_names=True, filter_by_created_timestamp=known
    ).to_df()
    assert answer["note"].tolist() == list(range(len(asked)))
    for view, ttl in [("forever", None), ("brief", 3)]:
        places = [None if pd.isna(p) else int(p) for p in answer[f"{view}__place"]]
        for (region, number, time), place in zip(asked, places, strict=True):
            best = newest(rows, region, number, time, ttl, known)
            assert best == (None if place is None else rows[place][2:4])
            if place is not None:
                assert rows[place][:2] == (region, number)
    names = [None if pd.isna(p) else rows[int(p)][4] for p in answer["forever__place"]]
    assert answer["forever__name"].tolist() == names


def newest(
    rows: list[tuple[Any, ...]], region: str, number: int, time: int, ttl: int | None, known: bool
) -> tuple[int, int] | None:
    """(event time, created time) of the row that counts, found by looking at all of them."""
    found = [
        (at, learned)
        for its_region, its_number, at, learned, _ in rows
        if None not in (region, number, at)
        and (its_region, its_number) == (region, number)
        and at <= time
        and (ttl is None or time - at <= ttl)
        and (not known or learned <= time)
    ]
    return max(found, default=None)


@few
@given(asked=USERS, zone=st.sampled_from(ZONES))
def test_clients_of_feast_are_told_what_our_own_call_tells(
    world: World,
    feast: FeatureStore,
    asked: list[tuple[int | None, int, int]],
    zone: str,
) -> None:
    moments = world.matrix.times[np.isin(world.matrix.keys, [1, 2, 3, 4])]
    times = np.array([moments[n % len(moments)] + us for _, n, us in asked], dtype="M8[us]")
    keys = [key for key, _, _ in asked]
    entity_rows = pd.DataFrame(
        {
            "user_id": pd.Series(keys, dtype="Int64"),
            "event_timestamp": pd.DatetimeIndex(times, tz="UTC").tz_convert(zone),
        }
    )
    names = ["age", "occupation", "capital_gain_log"]
    answer = feast.get_historical_features(entity_rows, [f"user_features:{n}" for n in names])
    ours, found = world.offline.historical(
        MODEL_VIEW.schema.select(names), "user_id", np.array([key or -1 for key in keys]), times
    )
    table = answer.to_arrow().select(names).to_pylist()
    assert table == [ours.schema.decode(vector) for vector in ours.values]
    assert not any(table[n]["age"] for n in np.flatnonzero(~found))
