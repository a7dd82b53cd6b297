"""A view of another Feast project is never taken for ours because it has the same name."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from feast import FeatureStore, Field, PushSource
from feast.data_source import PushMode
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
    SavedDatasetPostgreSQLStorage,
)
from feast.repo_config import RegistryConfig
from feast.types import Float64, Int64

from configs.settings import Settings
from feature_store.errors import FeatureStoreError, SchemaMismatch, UnknownFeature
from feature_store.feast_plugin.logging import PostgresLoggingDestination
from feature_store.feature_definitions import MODEL_VIEW, USER_ACTIVITY
from feature_store.offline.postgres import Postgres
from tests.worlds.databases import own_database
from tests.worlds.feast import CREATED, World, foreign_view, make_table

NAME = MODEL_VIEW.name
AGE = [f"{NAME}:age"]
START, END = datetime(2020, 1, 1, tzinfo=UTC), datetime.now(UTC)


@pytest.fixture(scope="module")
def people(world: World) -> str:
    """Somebody else's table beside ours: everybody is 99."""
    make_table(world.offline.postgres, "people", 99)
    return "people"


@pytest.fixture
def elsewhere(world: World, tmp_path: Path) -> FeatureStore:
    """Another Feast project over the same servers, with a registry of its own."""
    registry = RegistryConfig(path=str(tmp_path / "registry.db"))
    return world.feast_with(project="elsewhere", registry=registry)


@pytest.fixture(autouse=True)
def _rows(world: World) -> Iterator[None]:
    world.redis.flushdb()
    world.online.write(world.matrix, CREATED)
    return


def asked(*users: int) -> pd.DataFrame:
    return pd.DataFrame(
        {"user_id": list(users), "event_timestamp": [datetime.now(UTC)] * len(users)}
    )


def ages(feast: FeatureStore, refs: list[str] = AGE) -> list[Any]:
    return feast.get_historical_features(asked(1, 2), refs).to_df()["age"].tolist()


def test_a_namesake_over_its_own_table_answers_its_own_rows_offline(
    world: World, elsewhere: FeatureStore, people: str
) -> None:
    view = foreign_view(people, online=False)
    elsewhere.apply([*view_objects(view)])
    assert ages(elsewhere) == [99, 99]
    assert 99 not in ages(world.feast)
    every = elsewhere.get_historical_features(None, AGE, start_date=START, end_date=END).to_df()
    assert every["age"].tolist() == [99, 99, 99]


def view_objects(view: Any) -> list[Any]:
    """A view and what it needs."""
    from feast import Entity, ValueType

    entity = Entity(name="user_id", join_keys=["user_id"], value_type=ValueType.INT64)
    return [entity, view]


def test_a_namesake_that_says_it_is_ours_is_refused_with_what_makes_it_another(
    elsewhere: FeatureStore, people: str
) -> None:
    tags = {"schema_fingerprint": MODEL_VIEW.schema.fingerprint}
    with pytest.raises(UnknownFeature, match="is another: it reads people, ours user_features"):
        elsewhere.apply(view_objects(foreign_view(people, tags=tags)))
    with pytest.raises(UnknownFeature, match=r"is another: its key or fields differ \("):
        elsewhere.apply(view_objects(foreign_view(NAME, tags=tags)))
    gone = foreign_view(people, "gone", tags=tags)
    with pytest.raises(UnknownFeature, match="'gone' is not defined in feature_store/feature_def"):
        elsewhere.apply(view_objects(gone))


def test_a_namesake_over_our_table_with_other_fields_has_rows_of_its_own_online(
    world: World, elsewhere: FeatureStore
) -> None:
    before = world.packed_rows()
    elsewhere.apply(view_objects(foreign_view(NAME)))
    elsewhere.materialize(START, END)
    online = elsewhere.get_online_features(AGE, [{"user_id": 1}, {"user_id": 2}]).to_dict()
    assert online["age"] == ages(world.feast)
    assert world.packed_rows() == before
    elsewhere.teardown()
    assert world.packed_rows() == before


def test_a_namesake_over_our_table_reads_our_rows_offline(
    world: World, elsewhere: FeatureStore
) -> None:
    elsewhere.apply(view_objects(foreign_view(NAME, online=False)))
    assert ages(elsewhere) == ages(world.feast)


def test_rows_of_a_namesake_are_kept_apart_from_ours_online(
    world: World, elsewhere: FeatureStore, people: str
) -> None:
    before = world.packed_rows()
    elsewhere.apply(view_objects(foreign_view(people)))
    elsewhere.materialize(START, datetime.now(UTC))
    rows = pd.DataFrame({"user_id": [1], "age": [7], "event_timestamp": [datetime.now(UTC)]})
    elsewhere.write_to_online_store(NAME, rows.assign(created_timestamp=END))
    online = elsewhere.get_online_features(AGE, [{"user_id": 1}, {"user_id": 2}]).to_dict()
    assert online["age"] == [7, 99]
    assert world.packed_rows() == before
    elsewhere.teardown()
    assert not world.redis.keys("elsewhere:*")
    assert world.packed_rows() == before


def test_a_push_to_a_namesake_is_appended_to_its_own_table(
    world: World, elsewhere: FeatureStore
) -> None:
    make_table(world.offline.postgres, "pushed_people", 98)
    view = foreign_view("pushed_people", online=False)
    source = PushSource(name=f"{NAME}_push", batch_source=view.batch_source)
    elsewhere.apply(view_objects(foreign_view("pushed_people", online=False, source=source)))
    late = datetime.now(UTC) - timedelta(minutes=1)
    row = {"user_id": [1], "age": [97], "event_timestamp": [late], "created_timestamp": [late]}
    elsewhere.push(f"{NAME}_push", pd.DataFrame(row), to=PushMode.OFFLINE)
    assert ages(elsewhere) == [97, 98]
    assert 97 not in ages(world.feast)


def test_a_foreign_view_does_not_write_into_our_tables(elsewhere: FeatureStore) -> None:
    view = foreign_view(NAME, online=False)
    rows = pa.table({"user_id": [1], "age": [97]})
    store = elsewhere.provider.offline_store
    with pytest.raises(FeatureStoreError, match="only rows of that very view are written"):
        store.offline_write_batch(elsewhere.config, view, rows, None)


def test_logs_do_not_go_into_our_tables(world: World) -> None:
    logs = PostgresLoggingDestination("user_events")
    store = world.feast.provider.offline_store
    with pytest.raises(FeatureStoreError, match="holds the rows of 'user_activity'"):
        store.write_logged_features(
            world.feast.config, None, None, LoggingConfig(destination=logs), None
        )


def test_a_dataset_is_not_saved_over_our_tables(world: World) -> None:
    job = world.feast.get_historical_features(asked(1), AGE)
    with pytest.raises(FeatureStoreError, match="holds the rows of 'user_activity'"):
        job.persist(SavedDatasetPostgreSQLStorage("user_events"), allow_overwrite=True)


def test_a_table_of_our_views_name_in_another_database_is_read_as_it_is(
    settings: Settings, world: World, tmp_path: Path
) -> None:
    with own_database(settings) as url:
        make_table(Postgres(url), NAME, 96)
        offline = world.feast.config.offline_config | {"url": url}
        registry = RegistryConfig(path=str(tmp_path / "registry.db"))
        feast = world.feast_with(project="far", registry=registry, offline_store=offline)
        view = foreign_view(NAME, online=False, schema=[])
        feast.apply(view_objects(view))
        assert [(f.name, f.dtype) for f in feast.get_feature_view(NAME).features] == [
            ("age", Int64)
        ]
        assert ages(feast) == [96, 96]


def test_a_namesake_of_a_windowed_view_reads_its_own_rows(
    elsewhere: FeatureStore, people: str
) -> None:
    windowed = USER_ACTIVITY.name
    source = PostgreSQLSource(name=windowed, table=people, timestamp_field="event_timestamp")
    view = foreign_view(people, windowed, source=source, online=False)
    elsewhere.apply(view_objects(view))
    assert ages(elsewhere, [f"{windowed}:age"]) == [99, 99]
    pulled = elsewhere.provider.offline_store.pull_latest_from_table_or_query(
        elsewhere.config, source, ["user_id"], ["age"], "event_timestamp", None, START, END
    )
    assert pulled.to_df()["age"].tolist() == [99, 99, 99]


def test_a_view_that_another_code_registered_is_refused(world: World) -> None:
    view = world.feast.get_feature_view(NAME)
    view.tags = view.tags | {"schema_fingerprint": "0123456789abcdef"}
    world.feast.registry.apply_feature_view(view, world.feast.project)
    try:
        with pytest.raises(SchemaMismatch, match=r"holds version 0123456789abcdef .*`feast apply`"):
            world.feast.get_online_features(AGE, [{"user_id": 1}])
        with pytest.raises(SchemaMismatch, match="0123456789abcdef"):
            ages(world.feast)
    finally:
        world.feast.apply([world.view])


def test_a_feature_whose_name_begins_like_our_packed_ones_stays(world: World, people: str) -> None:
    with world.offline.postgres.transaction() as connection:
        connection.execute(
            "CREATE TABLE parcels AS SELECT user_id, event_timestamp, created_timestamp, "
            "age / 2.0::float8 AS packed_weight FROM people"
        )
    weight = Field(name="packed_weight", dtype=Float64)
    fields = [Field(name="user_id", dtype=Int64), weight]
    world.feast.apply([foreign_view("parcels", "parcels", schema=fields, online=False)])
    refs = ["parcels:packed_weight", f"{NAME}_on_request:age"]
    rows = asked(1).assign(attributes="{}")
    found = world.feast.get_historical_features(rows, refs).to_df()
    assert found["packed_weight"].tolist() == [49.5]
