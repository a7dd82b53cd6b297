"""Windowed values through Feast's own client: both views in one call, statuses, pushes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from feast.data_source import PushMode
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

from configs.settings import load_settings
from feature_store import connect
from feature_store.errors import EntityNotFound, FeatureStoreError
from feature_store.feature_definitions import USER_ACTIVITY
from feature_store.offline.events import ActivityEvent
from feature_store.offline.windowed_reads import ActivityStore
from feature_store.retrieval import get_online_features, get_training_data
from feature_store.windows.writer import ActivityWriter
from tests.worlds.feast import UNKNOWN, USERS, World

NOW = datetime.now(UTC)
DAY, HOUR, INSTANT = timedelta(days=1), timedelta(hours=1), timedelta(microseconds=1)
NAMES = list(USER_ACTIVITY.schema.names)
COUNT, MEAN = "user_activity:events_count_7d", "user_activity:amount_mean_7d"
QUIET, PROFILE_ONLY = 8, 9
THEN = datetime(2023, 6, 1, 12, tzinfo=UTC)
"""In the time of the labels, so that training sets have activity too."""


def events() -> list[ActivityEvent]:
    """Users 1 to 7 of late, each as many events as the key says; user 8 until forty days ago."""
    made = [
        ActivityEvent(f"{key}-{n}", key, NOW - n * HOUR, "purchase", 100 * key)
        for key in range(1, 8)
        for n in range(1, key + 1)
    ]
    made += [ActivityEvent(f"old-{n}", QUIET, NOW - 40 * DAY - n * HOUR, "view", None)
             for n in range(3)]  # fmt: skip
    made += [ActivityEvent(f"then-{key}", key, THEN, "view", None) for key in range(1, USERS)]
    return made


@pytest.fixture(scope="module")
def writer(world: World) -> ActivityWriter:
    """Events in both stores, and the view applied."""
    made = connect.activity_writer(load_settings())
    made.apply(events(), datetime.now(UTC))
    world.feast.apply([world.objects[name] for name in ("activity_source", "activity")])
    return made


@pytest.fixture(autouse=True)
def _rows(world: World, writer: ActivityWriter) -> Iterator[None]:
    """Every test starts with both views online."""
    world.redis.flushdb()
    world.online.write(world.matrix, datetime(2024, 6, 1, tzinfo=UTC))
    writer.rebuild()
    return


def statuses(world: World, reference: str, *keys: int) -> list[str]:
    rows = [{"user_id": key} for key in keys]
    response = world.feast.get_online_features([reference], rows).proto
    names = list(response.metadata.feature_names.val)
    place = names.index(reference.split(":")[1])
    return [FieldStatus.Name(status) for status in response.results[place].statuses]


def packed(writer: ActivityWriter) -> dict[bytes, bytes]:
    keys = sorted(writer.online.client.scan_iter(f"{writer.online.prefix}*"))
    rows = writer.online.client.mget(keys) if keys else []
    return {key: row[:24] + row[32:] for key, row in zip(keys, rows, strict=True)}


def test_both_views_come_in_one_historical_call(world: World) -> None:
    times = [NOW, NOW - 3 * HOUR, NOW + 40 * DAY, NOW, THEN, THEN + INSTANT]
    rows = pd.DataFrame({"user_id": [5, 5, 5, UNKNOWN, 5, 5], "event_timestamp": times})
    answer = world.feast.get_historical_features(rows, ["user_features:age", COUNT, MEAN]).to_df()
    assert answer["events_count_7d"].tolist() == [5, 2, pd.NA, pd.NA, pd.NA, 1]
    assert answer["amount_mean_7d"].fillna(-1).tolist() == [5, 5, -1, -1, -1, -1]
    age = world.matrix.values[4, 0]
    assert answer["age"].tolist()[:4] == [age, age, age, pd.NA]
    assert answer["events_count_7d"].dtype == "Int64"


def test_historical_values_are_those_of_our_own_store(world: World) -> None:
    keys = np.tile(np.arange(1, 41), 3)
    times = np.array([NOW - 2 * DAY, THEN + DAY, NOW - 90 * INSTANT])[np.repeat([0, 1, 2], 40)]
    rows = pd.DataFrame({"user_id": keys, "event_timestamp": times})
    references = [f"user_activity:{name}" for name in NAMES]
    answer = world.feast.get_historical_features(rows, references).to_df()
    naive = np.array([time.replace(tzinfo=None) for time in times], dtype="datetime64[us]")
    own, _ = ActivityStore(world.offline.postgres).historical(USER_ACTIVITY.schema, keys, naive)
    given = answer[NAMES].astype("float32").to_numpy()
    np.testing.assert_array_equal(given, own.values)


def test_what_was_not_known_then_is_left_out(world: World) -> None:
    rows = pd.DataFrame({"user_id": [5], "event_timestamp": [NOW]})
    later = pd.DataFrame({"user_id": [5], "event_timestamp": [datetime.now(UTC)]})
    ask = {"features": [COUNT], "filter_by_created_timestamp": True}
    assert world.feast.get_historical_features(rows, **ask).to_df()[
        "events_count_7d"].tolist() == [pd.NA]  # fmt: skip
    assert world.feast.get_historical_features(later, **ask).to_df()[
        "events_count_7d"].tolist() == [5]  # fmt: skip


def test_keys_that_cannot_be_a_user_find_nothing(world: World) -> None:
    rows = pd.DataFrame({"user_id": [5.0, 5.5, np.nan], "event_timestamp": [NOW] * 3})
    answer = world.feast.get_historical_features(rows, [COUNT]).to_df()
    assert answer["events_count_7d"].tolist() == [5, pd.NA, pd.NA]


def test_without_entity_rows_there_is_one_for_each_event(world: World) -> None:
    answer = world.feast.get_historical_features(
        features=[COUNT], start_date=NOW - DAY, end_date=NOW
    ).to_df()
    mine = answer[answer["user_id"] == 3].sort_values("event_timestamp")
    assert len(answer) == sum(range(1, 8))
    # As of the time of the event, which does not count itself; nothing before the first is known.
    assert mine["events_count_7d"].tolist() == [pd.NA, 1, 2]


def test_both_views_come_in_one_online_round_trip(world: World) -> None:
    before = world.redis.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"]
    references = ["user_features:age", COUNT, MEAN]
    rows = [{"user_id": key} for key in (5, QUIET, PROFILE_ONLY, UNKNOWN)]
    answer = world.feast.get_online_features(references, rows).to_dict()
    after = world.redis.info("commandstats")["cmdstat_mget"]["calls"]
    assert after - before == 1
    assert answer["events_count_7d"] == [5, None, None, None]
    assert answer["amount_mean_7d"] == [5, None, None, None]
    assert answer["age"][:3] == [
        world.matrix.values[key - 1, 0] for key in (5, QUIET, PROFILE_ONLY)
    ]

    async def read() -> dict[str, list[object]]:
        found = await world.feast.get_online_features_async(references, rows)
        await world.feast.provider.online_store.close()
        return found.to_dict()

    assert asyncio.run(read()) == answer


def test_statuses_tell_quiet_users_from_unknown_ones(world: World) -> None:
    expected = ["PRESENT", "OUTSIDE_MAX_AGE", "NOT_FOUND"]
    assert statuses(world, COUNT, 5, QUIET, UNKNOWN) == expected
    assert statuses(world, "user_features:age", 5, QUIET, UNKNOWN)[:2] == ["PRESENT", "PRESENT"]


def test_materialize_makes_the_rows_that_the_writer_made(
    world: World, writer: ActivityWriter
) -> None:
    before = packed(writer)
    writer.online.delete()
    world.feast.materialize(THEN, NOW, ["user_activity"])
    assert packed(writer) == before
    writer.online.delete()
    world.feast.materialize(NOW - HOUR, NOW, ["user_activity"])
    assert len(packed(writer)) == 7
    assert packed(writer).items() <= before.items()


def test_materialize_incremental_goes_on_where_the_last_one_ended(
    world: World, writer: ActivityWriter
) -> None:
    world.feast.materialize(THEN, NOW + DAY, ["user_activity"])
    writer.online.delete()
    world.feast.materialize_incremental(NOW + 2 * DAY, ["user_activity"])
    assert packed(writer) == {}


def test_pulls_give_a_row_for_each_event_or_for_the_newest_of_each_user(world: World) -> None:
    store, view = world.feast.provider.offline_store, world.objects["activity"]
    given = (world.feast.config, view.batch_source, ["user_id"], ["events_count_7d"])
    times = ("event_timestamp", "created_timestamp", NOW - DAY, NOW)
    latest = store.pull_latest_from_table_or_query(*given, *times).to_df()
    every = store.pull_all_from_table_or_query(*given, *times).to_df()
    assert latest.set_index("user_id")["events_count_7d"].to_dict() == {n: n for n in range(1, 8)}
    assert len(every) == sum(range(1, 8))
    assert every[every["user_id"] == 3]["events_count_7d"].tolist() == [1, 2, 3]


def test_pushed_rows_are_events_and_reach_both_stores_once(
    world: World, writer: ActivityWriter
) -> None:
    pushed = pd.DataFrame(
        {
            "event_id": ["p1", "p2", "p1"],
            "user_id": [77_000, 77_000, 77_000],
            "event_timestamp": [NOW - HOUR, NOW - 2 * HOUR, NOW - HOUR],
            "event_type": ["purchase", "view", "purchase"],
            "amount_cents": [250, None, 250],
        }
    )
    for _ in range(2):
        world.feast.push("user_activity_push", pushed, to=PushMode.OFFLINE)
    answer = get_online_features(77_000, ["user_activity:*"])
    assert answer["events_count_1d"] == 2
    assert answer["amount_sum_30d"] == 2.5
    with writer.postgres.transaction() as connection:
        connection.execute("DELETE FROM user_events WHERE user_id = 77000")


def test_values_cannot_be_written_into_rows_that_are_made_of_events(world: World) -> None:
    times = {"event_timestamp": [NOW], "created_timestamp": [NOW]}
    values = pd.DataFrame({"user_id": [1], **times, **dict.fromkeys(NAMES, 1.0)})
    with pytest.raises(FeatureStoreError, match=r"made of events.*to=PushMode\.OFFLINE"):
        world.feast.write_to_online_store("user_activity", values)


def test_our_own_calls_take_both_views(world: World) -> None:
    answer = get_online_features(5, ["age", COUNT])
    assert answer == {"age": world.matrix.values[4, 0], "events_count_7d": 5}
    quiet = get_online_features(QUIET, ["user_features:age", COUNT])
    assert quiet["events_count_7d"] is None
    with pytest.raises(EntityNotFound, match=f"user_activity {QUIET}"):
        get_online_features(QUIET, [COUNT])

    start, end = datetime(2020, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    features, labels = get_training_data(["user_features:age", COUNT], "income", start, end)
    alone, _ = get_training_data(["user_features:age"], "income", start, end)
    pd.testing.assert_frame_equal(features[["age"]], alone)
    assert list(features.columns) == ["age", "events_count_7d"]
    assert len(features) == len(labels) == USERS
    times = pd.Series(world.labels.times, world.labels.keys)[features.index[:-1]]
    then = np.datetime64(THEN.replace(tzinfo=None))
    soon = (times > then) & (times <= then + np.timedelta64(30, "D"))
    assert soon.any()
    assert features["events_count_7d"][:-1].notna().tolist() == soon.tolist()


def test_feast_knows_what_each_feature_counts(world: World) -> None:
    view = world.feast.get_feature_view("user_activity")
    field = {field.name: field for field in view.features}["purchases_count_7d"]
    assert (field.tags["window"], field.tags["hop"]) == ("7d", "1d")
    assert field.tags["event_type"] == "purchase"
    assert view.ttl == timedelta(days=30)
    assert [column.name for column in view.entity_columns] == ["user_id"]
