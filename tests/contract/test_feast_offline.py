"""Historical features through Feast's own client are those of our own calls."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, ValueType
from feast.feature_logging import FeatureServiceLoggingSource
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
    SavedDatasetPostgreSQLStorage,
)
from feast.types import Float64, Int64, String

from feature_store.errors import FeatureStoreError
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.retrieval import get_training_data
from tests.worlds.feast import CREATED, REPO, UNKNOWN, USERS, World

START, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
NAMES = list(MODEL_VIEW.schema.names)
REFS = [f"{MODEL_VIEW.name}:{name}" for name in NAMES]


def labelled(world: World) -> pd.DataFrame:
    """Every user at the time of the label."""
    return pd.DataFrame({"user_id": world.labels.keys, "event_timestamp": world.labels.times})


def test_historical_features_are_the_training_data(world: World) -> None:
    job = world.feast.get_historical_features(entity_df=labelled(world), features=world.service)
    features, _ = get_training_data(["user_features:*"], "income", START, END)
    assert len(features) == USERS
    pd.testing.assert_frame_equal(job.to_df().set_index("user_id")[NAMES], features)


def test_clients_see_proper_types_and_null_for_missing(world: World) -> None:
    table = world.feast.get_historical_features(labelled(world), REFS).to_arrow()
    assert table.schema.field("age").type == pa.int64()
    assert table.schema.field("capital_gain_log").type == pa.float32()
    assert table.schema.field("workclass").type == pa.string()
    workclass = [
        f.decode(v)
        for f, v in zip(
            [MODEL_VIEW.schema.features[1]] * USERS, world.matrix.values[:USERS, 1], strict=True
        )
    ]
    assert None in workclass
    assert table["workclass"].to_pylist() == workclass
    assert all(table[name][USERS - 1].as_py() is None for name in NAMES)


def test_rows_out_are_rows_in_in_order_and_unknown_ones_are_kept(world: World) -> None:
    keys = [7, UNKNOWN, 3, 7, 1]
    times = [END, END, START, world.matrix.times[6].item(), END]
    rows = pd.DataFrame({"note": list("abcde"), "user_id": keys, "event_timestamp": times})
    answer = world.feast.get_historical_features(rows, ["user_features:age"]).to_df()
    assert answer.columns.tolist() == ["note", "user_id", "event_timestamp", "age"]
    assert answer["note"].tolist() == list("abcde")
    age = world.matrix.values[:, 0]
    assert answer["age"].tolist() == [50, pd.NA, pd.NA, age[6], 50]


def test_times_of_other_zones_and_without_a_zone_mean_the_same(world: World) -> None:
    moment = pd.Timestamp(world.matrix.times[4], tz="UTC")

    def ages(times: list[object]) -> list[object]:
        rows = pd.DataFrame({"user_id": [5] * len(times), "event_timestamp": times})
        return (
            world.feast.get_historical_features(rows, ["user_features:age"]).to_df()["age"].tolist()
        )

    age = world.matrix.values[4, 0]
    second = timedelta(seconds=1)
    assert ages([moment, moment - second]) == [age, pd.NA]
    assert ages([moment.tz_localize(None), moment.tz_localize(None) - second]) == [age, pd.NA]
    assert ages([moment.tz_convert("Asia/Tokyo"), (moment - second).tz_convert("Asia/Tokyo")]) == [
        age,
        pd.NA,
    ]


def test_keys_that_cannot_be_a_user_find_nothing(world: World) -> None:
    rows = pd.DataFrame({"user_id": [1.0, 1.5, np.nan], "event_timestamp": [END] * 3})
    answer = world.feast.get_historical_features(rows, ["user_features:age"]).to_df()
    assert answer["age"].tolist() == [50, pd.NA, pd.NA]


def test_the_entity_rows_may_be_a_query(world: World) -> None:
    query = "SELECT user_id, label_time AS event_timestamp FROM labels WHERE user_id <= 9"
    answer = world.feast.get_historical_features(query, ["user_features:age"]).to_df()
    assert answer.sort_values("user_id")["age"].tolist() == world.matrix.values[:9, 0].tolist()


def test_without_entity_rows_every_event_of_the_range_is_read(world: World) -> None:
    start = datetime(2022, 1, 1, tzinfo=UTC)
    answer = world.feast.get_historical_features(
        features=["user_features:age"], start_date=start, end_date=END
    ).to_df()
    assert len(answer) == (world.matrix.times >= np.datetime64("2022-01-01")).sum()


def test_what_was_learned_later_can_be_left_out(world: World) -> None:
    rows = pd.DataFrame(
        {"user_id": [1, 1], "event_timestamp": [CREATED, CREATED - timedelta(seconds=1)]}
    )
    answer = world.feast.get_historical_features(
        rows, ["user_features:age"], filter_by_created_timestamp=True
    ).to_df()
    assert answer["age"].tolist() == [50, pd.NA]


def test_full_names_carry_the_view(world: World) -> None:
    answer = world.feast.get_historical_features(
        labelled(world)[:2], ["user_features:age"], full_feature_names=True
    )
    assert "user_features__age" in answer.to_df().columns


def test_a_missing_key_column_is_named(world: World) -> None:
    rows = pd.DataFrame({"event_timestamp": [END]})
    with pytest.raises(FeatureStoreError, match=r"have no column user_id\. They have: event_times"):
        world.feast.get_historical_features(rows, ["user_features:age"])


def test_a_result_has_one_chunk_however_it_was_read(world: World) -> None:
    store = world.feast.provider.offline_store
    given = (world.feast.config, world.view.batch_source, ["user_id"], ["age", "sex"])
    times = ("event_timestamp", "created_timestamp", START, END)
    latest = store.pull_latest_from_table_or_query(*given, *times).to_arrow()
    everything = store.pull_all_from_table_or_query(*given, *times).to_arrow()
    assert latest.num_rows == USERS
    assert everything.num_rows == len(world.matrix)
    assert [column.num_chunks for column in everything.columns] == [1] * 5


def test_rows_of_a_table_of_ones_own_are_joined_too(world: World) -> None:
    visits = pa.table(
        {
            "shop": ["north", "north", "south"],
            "at": pa.array([START, END, START], pa.timestamp("us", "UTC")),
            "n": [1, None, 3],
            "city": ["A", "B", None],
            "takings": [1.5, 2.5, 3.5],
        }
    )
    world.offline.postgres.ingest("visits", visits, "create")
    shop = Entity(name="shop", join_keys=["shop"], value_type=ValueType.STRING)
    fields = [
        Field(name=name, dtype=dtype)
        for name, dtype in {"shop": String, "n": Int64, "town": String, "takings": Float64}.items()
    ]
    source = PostgreSQLSource(
        name="visits", table="visits", timestamp_field="at", field_mapping={"city": "town"}
    )
    view = FeatureView(
        name="shop_visits",
        entities=[shop],
        schema=fields,
        source=source,
        online=False,
        ttl=timedelta(days=10),
    )
    world.feast.apply([shop, view])
    rows = pd.DataFrame(
        {
            "shop": ["south", "north", "west", "south"],
            "event_timestamp": [START + timedelta(days=10), END, END, START + timedelta(days=11)],
        }
    )
    answer = world.feast.get_historical_features(
        rows, ["shop_visits:town", "shop_visits:n", "shop_visits:takings"]
    ).to_df()
    assert answer["n"].tolist() == [3, pd.NA, pd.NA, pd.NA]
    assert answer["town"].tolist() == [None, "B", None, None]
    assert answer["takings"].fillna(-1).tolist() == [3.5, 2.5, -1, -1]


def test_a_stored_row_without_a_key_is_no_row_for_history_nor_for_a_materialization(
    world: World, tmp_path: Path
) -> None:
    stays = pa.table(
        {
            "guest": ["Ada", None, "Ada", None],
            "at": pa.array([START, START, END, END], pa.timestamp("us", "UTC")),
            "nights": [1, 2, 3, 4],
        }
    )
    world.offline.postgres.ingest("stays", stays, "create")
    guest = Entity(name="guest", join_keys=["guest"], value_type=ValueType.STRING)
    view = FeatureView(
        name="guest_stays",
        entities=[guest],
        schema=[Field(name="guest", dtype=String), Field(name="nights", dtype=Int64)],
        source=PostgreSQLSource(name="stays", table="stays", timestamp_field="at"),
    )
    elsewhere = {"type": "sqlite", "path": str(tmp_path / "online.db")}
    feast = world.feast_with(
        online_store=elsewhere, registry=str(tmp_path / "registry.db"), batch_engine="local"
    )
    feast.apply([guest, view])
    feast.materialize(START, END + timedelta(seconds=1))
    answer = feast.get_online_features(["guest_stays:nights"], [{"guest": "Ada"}]).to_dict()
    assert answer["nights"] == [3]


def test_a_result_can_be_saved_and_read_back(world: World) -> None:
    job = world.feast.get_historical_features(labelled(world)[:5], ["user_features:age"])
    storage = SavedDatasetPostgreSQLStorage("saved_ages")
    with pytest.warns(RuntimeWarning, match="experimental"):
        dataset = world.feast.create_saved_dataset(job, "ages", storage)
    assert dataset.to_df()["age"].sort_values().tolist() == sorted(world.matrix.values[:5, 0])
    with pytest.warns(RuntimeWarning, match="experimental"):
        again = world.feast.get_saved_dataset("ages")
    pd.testing.assert_frame_equal(again.to_df(), dataset.to_df())


def test_a_result_says_that_it_has_no_sql(world: World) -> None:
    job = world.feast.get_historical_features(labelled(world)[:5], ["user_features:age"])
    with pytest.raises(FeatureStoreError, match="Use `to_arrow`, `to_df` or `persist`"):
        job.to_sql()


def test_logs_of_served_features_are_kept(world: World) -> None:
    service = FeatureStore(repo_path=str(REPO)).get_feature_service(world.service.name)
    assert service.logging_config.destination.table == "income_predictor_served"
    schema = FeatureServiceLoggingSource(service, world.feast.project).get_schema(
        world.feast.registry
    )
    values = {field.name: [None] for field in schema}
    values |= {"user_id": [5], "user_features__age": [39], "__log_timestamp": [CREATED]}
    logs = pa.table({name: pa.array(v, schema.field(name).type) for name, v in values.items()})
    world.feast.write_logged_features(logs, service)
    world.feast.write_logged_features(logs, service)
    read = world.feast.provider.retrieve_feature_service_logs(
        service,
        CREATED - timedelta(days=1),
        CREATED + timedelta(days=1),
        world.feast.config,
        world.feast.registry,
    ).to_df()
    assert read["user_features__age"].tolist() == [39, 39]
