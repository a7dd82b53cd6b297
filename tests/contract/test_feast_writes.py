"""What a Feast client writes reaches the stores that it names, as the pipeline would write it."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from feast import FeatureStore
from feast.data_source import PushMode
from feast.feature_service import FeatureService

from configs.settings import Settings, load_settings
from feature_store.connect import offline_store
from feature_store.errors import FeatureStoreError, InvalidEvent
from feature_store.feature_definitions import MODEL_VIEW
from tests.worlds.feast import CREATED, OBJECTS, REPO, World

END = datetime(2026, 1, 1, tzinfo=UTC)
VIEW = MODEL_VIEW.name
new_users = itertools.count(2_000_000, 10)


@pytest.fixture
def rows(world: World) -> pd.DataFrame:
    """Three rows as a client has them, of users whom nobody knows yet."""
    asked = pd.DataFrame({"user_id": [1, 2, 3], "event_timestamp": [CREATED] * 3})
    frame = world.feast.get_historical_features(asked, world.service).to_df()
    first = next(new_users)
    return frame.assign(
        user_id=[first, first + 1, first + 2],
        event_timestamp=pd.Timestamp(END),
        created_timestamp=pd.Timestamp(CREATED),
    )


def online(world: World, rows: pd.DataFrame) -> list[bytes | None]:
    found = world.online.read_many(rows["user_id"].tolist())
    return [None if row is None else row.vector.tobytes() for row in found]


def offline(world: World, rows: pd.DataFrame) -> list[bytes | None]:
    keys = np.array([*rows["user_id"], 1])
    times = np.full(len(keys), np.datetime64("2026-01-01", "us"))
    matrix, found = world.offline.historical(MODEL_VIEW.schema, "user_id", keys, times)
    return [
        row.tobytes() if is_found else None
        for row, is_found in zip(matrix.values[:-1], found[:-1], strict=True)
    ]


def expected(world: World) -> list[bytes]:
    found = world.online.read_many([1, 2, 3])
    return [row.vector.tobytes() for row in found if row is not None]


NOWHERE = [None, None, None]


def test_a_push_goes_online(world: World, rows: pd.DataFrame) -> None:
    world.feast.push(f"{VIEW}_push", rows)
    assert online(world, rows) == expected(world)
    assert offline(world, rows) == NOWHERE


def test_a_push_goes_offline(world: World, rows: pd.DataFrame) -> None:
    world.feast.push(f"{VIEW}_push", rows, to=PushMode.OFFLINE)
    assert online(world, rows) == NOWHERE
    assert offline(world, rows) == expected(world)


def test_a_push_goes_to_both_and_again_changes_nothing(world: World, rows: pd.DataFrame) -> None:
    for _ in range(2):
        world.feast.push(f"{VIEW}_push", rows, to=PushMode.ONLINE_AND_OFFLINE)
    assert online(world, rows) == offline(world, rows) == expected(world)
    first = rows["user_id"].tolist()[0]
    [stored] = world.offline.postgres.query(
        f"SELECT count(*) FROM {VIEW} WHERE user_id = {first}"
    ).row(0)
    assert stored == 1


def test_a_push_from_an_event_loop_goes_to_both(world: World, rows: pd.DataFrame) -> None:
    asyncio.run(world.feast.push_async(f"{VIEW}_push", rows, to=PushMode.ONLINE_AND_OFFLINE))
    assert online(world, rows) == offline(world, rows) == expected(world)


def test_rows_are_written_to_each_store_by_its_name(world: World, rows: pd.DataFrame) -> None:
    world.feast.write_to_online_store(VIEW, rows)
    assert online(world, rows) == expected(world)
    assert offline(world, rows) == NOWHERE
    world.feast.write_to_offline_store(VIEW, rows)
    assert offline(world, rows) == expected(world)
    asyncio.run(world.feast.write_to_online_store_async(VIEW, rows.assign(age=77)))
    assert [row.vector[0] for row in world.online.read_many(rows["user_id"].tolist()) if row] == [
        rows["age"][0], rows["age"][1], rows["age"][2],
    ]  # of one event, what was learned no later does not win  # fmt: skip


def test_an_older_push_does_not_win(world: World, rows: pd.DataFrame) -> None:
    world.feast.push(f"{VIEW}_push", rows)
    older = rows.assign(event_timestamp=pd.Timestamp(END - timedelta(days=1)), age=77)
    world.feast.push(f"{VIEW}_push", older)
    assert online(world, rows) == expected(world)


@pytest.mark.parametrize("to", [PushMode.ONLINE, PushMode.OFFLINE, PushMode.ONLINE_AND_OFFLINE])
def test_a_push_of_what_has_not_happened_is_refused_and_nothing_of_it_is_written(
    world: World, rows: pd.DataFrame, to: PushMode
) -> None:
    rows.loc[1, "event_timestamp"] = pd.Timestamp("2098-01-01", tz="UTC")
    with pytest.raises(InvalidEvent, match=r"1 of 3 rows .* not happened yet: row 2 is of 2098-01"):
        world.feast.push(f"{VIEW}_push", rows, to=to)
    with pytest.raises(InvalidEvent, match="Nothing was written"):
        world.feast.write_to_online_store(VIEW, rows)
    with pytest.raises(InvalidEvent, match="Nothing was written"):
        world.feast.write_to_offline_store(VIEW, rows)
    assert online(world, rows) == offline(world, rows) == NOWHERE


def test_columns_that_are_lacking_are_named(world: World, rows: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"missing_expected_columns: \['sex'\]"):
        world.feast.write_to_offline_store(VIEW, rows.drop(columns="sex"))


def test_rows_can_be_pushed_into_an_empty_offline_store(
    settings: Settings, world: World, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch,
    database_url: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("DATABASE_URL", database_url)
    feast = FeatureStore(repo_path=str(REPO))
    feast.apply([world.objects[name] for name in OBJECTS])
    feast.push(f"{VIEW}_push", rows, to=PushMode.OFFLINE)
    times = np.full(3, np.datetime64("2026-01-01", "us"))
    stored, found = offline_store(load_settings()).historical(
        MODEL_VIEW.schema, "user_id", rows["user_id"].to_numpy(), times
    )
    assert found.all()
    assert [row.tobytes() for row in stored.values] == expected(world)


def test_a_precomputed_service_sees_what_is_pushed_at_once(
    world: World, rows: pd.DataFrame
) -> None:
    service = FeatureService(name="precomputed", features=[world.view], precompute_online=True)
    world.feast.apply([service])
    try:
        world.feast.push(f"{VIEW}_push", rows)
        assert online(world, rows) == expected(world)
        asked = {"user_id": rows["user_id"].tolist()}
        answer = world.feast.get_online_features(service, asked).to_dict()
        assert answer["age"] == rows["age"].tolist()
        assert world.feast.precompute_feature_service("precomputed") == 0  # nothing left to do
    finally:
        world.feast.delete_feature_service("precomputed")


def test_search_by_vectors_is_refused(world: World) -> None:
    store, config = world.feast.provider.online_store, world.feast.config
    with pytest.raises(NotImplementedError, match="PackedOnlineStore does not support"):
        store.retrieve_online_documents(config, world.view, ["age"], [0.5], 3)
    with pytest.raises(NotImplementedError, match="PackedOnlineStore does not support"):
        store.retrieve_online_documents_v2(config, world.view, ["age"], [0.5], 3)


def test_feasts_own_monitoring_is_refused_with_another_way(world: World) -> None:
    with pytest.raises(FeatureStoreError, match="See `python -m feature_store stats`"):
        world.feast.provider.offline_store.ensure_monitoring_tables(world.feast.config)
