"""Exact columns through Feast's calls: to the digit, or refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from feast import FeatureStore
from feast.data_source import PushMode
from feast.feature_server import get_app
from feast.online_response import OnlineResponse
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RegistryConfig
from feast.type_map import NULL_TIMESTAMP_INT_VALUE
from feast.types import Float64, Int64, String, UnixTimestamp

from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.view import FeatureView
from feature_store.errors import FeatureStoreError, InvalidValue
from feature_store.feast_plugin import identity
from feature_store.feast_plugin.definitions import feast_entities, feast_source, feast_view
from feature_store.feast_plugin.online.planned_response import PlannedResponse
from feature_store.feast_plugin.server.serving import shorten
from tests.worlds.feast import World, by_feast, served

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
OPENED = datetime(2026, 1, 5, 10, 0, 0, 123_456, tzinfo=UTC)
EXACT = {"account": 9007199254740993, "balance": 0.1, "nick": "Ünï", "opened": OPENED}
NAMES = ["visits", *EXACT]
TYPES = {"account": Int64, "balance": Float64, "nick": String, "opened": UnixTimestamp}
BEFORE_1970 = datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
SECOND_ROW = [-(2**63) + 1, -1.5, "", BEFORE_1970]


def account_view() -> FeatureView:
    view = FeatureView("accounts", "user_id")
    view.raw("visits", integer=True, description="How often.")
    view.lookup("account", "int64", description="The account's number.")
    view.lookup("balance", "float64", unit="EUR", description="What is there.")
    view.lookup("nick", "string", protected=True, description="What friends say.")
    view.lookup("opened", "timestamp", description="When it was opened.")
    return view


VIEW = account_view()
SCHEMA = VIEW.schema
REFS = [f"accounts:{name}" for name in NAMES]


@pytest.fixture
def feast(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FeatureStore]:
    """A Feast project over the view, with rows of users 1 to 3 offline, a day old; none online."""
    monkeypatch.setattr(identity, "VIEWS", (VIEW,))
    registry = RegistryConfig(path=str(tmp_path / "registry.db"))
    feast = world.feast_with(project="exact", registry=registry)
    entities, source = feast_entities(VIEW), feast_source(VIEW)
    feast.apply([*entities, source, feast_view(VIEW, entities, source, 2 * DAY)])
    exact = np.full((3, 4), None, dtype=object)
    exact[0] = list(EXACT.values())
    exact[1] = [*SECOND_ROW[:2], None, BEFORE_1970]
    values = np.array([[3, 0.1], [np.nan, -1.5], [1, np.nan]], dtype=np.float32)
    times = np.full(3, np.datetime64((NOW - DAY).replace(tzinfo=None), "us"))
    matrix = FeatureMatrix(values, np.arange(1, 4), times, SCHEMA, exact)
    world.offline.append(matrix, "user_id", NOW - DAY)
    yield feast
    with world.offline.postgres.transaction() as connection:
        connection.execute(f"DELETE FROM {world.offline.table(SCHEMA)}")
    for key in world.redis.keys("exact:*"):
        world.redis.delete(key)


def asked(*users: int, time: datetime = NOW) -> pd.DataFrame:
    return pd.DataFrame({"user_id": users, "event_timestamp": [time] * len(users)})


def pushed(**columns: list[Any]) -> pd.DataFrame:
    """A row of user 7 as a client has it."""
    row = {name: [value] for name, value in EXACT.items()}
    times = {"event_timestamp": [NOW], "created_timestamp": [NOW]}
    return pd.DataFrame({"user_id": [7], "visits": [5], **times, **row} | columns)


def test_exact_columns_are_fields_of_their_own_types(feast: FeatureStore) -> None:
    fields = {field.name: field for field in feast.get_feature_view("accounts").features}
    assert {name: fields[name].dtype for name in TYPES} == TYPES
    assert fields["balance"].tags == {"kind": "lookup", "unit": "EUR"}
    assert fields["nick"].tags == {"kind": "lookup", "protected": "true"}
    source = feast.get_feature_view("accounts").batch_source
    columns = dict(
        feast.provider.get_table_column_names_and_types_from_data_source(feast.config, source)
    )
    assert columns["opened"] == "timestamp with time zone"


def test_history_has_every_digit(feast: FeatureStore) -> None:
    job = feast.get_historical_features(asked(1, 2, 3, 4), REFS)
    table = job.to_arrow()
    assert [table[name][0].as_py() for name in NAMES] == [3, *EXACT.values()]
    assert [table[name][1].as_py() for name in EXACT] == [*SECOND_ROW[:2], None, BEFORE_1970]
    for place in (2, 3):
        assert [table[name][place].as_py() for name in EXACT] == [None] * 4
    assert table.schema.field("opened").type == pa.timestamp("us", "UTC")
    assert table.schema.field("balance").type == pa.float64()
    frame = job.to_df()
    assert frame["account"].tolist() == [2**53 + 1, -(2**63) + 1, pd.NA, pd.NA]
    assert frame["opened"][0] == OPENED
    assert frame["balance"][0] == 0.1


def test_history_is_as_of_the_time_and_not_older_than_the_ttl(feast: FeatureStore) -> None:
    for time in (NOW - DAY - timedelta(microseconds=1), NOW + DAY + timedelta(microseconds=1)):
        found = feast.get_historical_features(asked(1, time=time), REFS).to_arrow()
        assert [found[name][0].as_py() for name in EXACT] == [None] * 4
    every = feast.get_historical_features(
        None, REFS, start_date=NOW - 2 * DAY, end_date=NOW
    ).to_df()
    assert every.sort_values("user_id")["account"].tolist()[:2] == [2**53 + 1, -(2**63) + 1]


def test_what_is_materialized_is_read_with_every_digit(feast: FeatureStore) -> None:
    feast.materialize(NOW - 2 * DAY, datetime.now(UTC))
    rows = [{"user_id": user} for user in (1, 2, 1, 9)]
    answer = feast.get_online_features(REFS, rows)
    assert isinstance(answer, PlannedResponse)
    found = answer.to_dict()
    assert found["account"] == [2**53 + 1, -(2**63) + 1, 2**53 + 1, None]
    assert found["balance"] == [0.1, -1.5, 0.1, None]
    assert found["nick"] == ["Ünï", None, "Ünï", None]
    assert found["opened"] == [OPENED, BEFORE_1970, OPENED, None]
    assert found["visits"] == [3, None, 3, None]


@pytest.mark.parametrize("full_names", [False, True])
def test_every_way_to_read_online_says_the_same(feast: FeatureStore, full_names: bool) -> None:
    feast.materialize(NOW - 2 * DAY, datetime.now(UTC))
    plain = [{"user_id": user} for user in (1, 2, 1, 9)]
    texts = [{"user_id": str(user["user_id"])} for user in plain]
    names = {"full_feature_names": full_names}
    planned = feast.get_online_features(REFS, plain, **names)
    own_way = feast.get_online_features(REFS, texts, **names)
    assert isinstance(planned, PlannedResponse)
    assert not isinstance(own_way, PlannedResponse)
    before = planned.to_dict()
    assert own_way.to_dict() == before
    assert own_way.to_dict(True) == planned.to_dict(True)
    assert planned.proto == own_way.proto
    assert planned.to_dict() == before

    async def read(rows: list[dict[str, Any]]) -> OnlineResponse:
        answer = await feast.get_online_features_async(REFS, rows, **names)
        await feast.provider.online_store.close()
        return answer

    for rows in (plain, texts):
        answer = asyncio.run(read(rows))
        assert answer.to_dict() == before
        assert answer.proto == planned.proto


def test_feasts_messages_have_times_in_whole_seconds(feast: FeatureStore) -> None:
    feast.materialize(NOW - 2 * DAY, datetime.now(UTC))
    request = ["accounts:opened"], [{"user_id": 1}, {"user_id": 2}]
    shown = by_feast(feast, *request).to_dict()["opened"]
    assert shown == [OPENED.replace(microsecond=0), BEFORE_1970.replace(microsecond=0)]
    assert feast.get_online_features(*request).proto == by_feast(feast, *request).proto


def test_the_server_sends_what_feasts_own_does(feast: FeatureStore) -> None:
    feast.materialize(NOW - 2 * DAY, datetime.now(UTC))
    body = {"features": REFS, "entities": {"user_id": [1, 2, 3, 9, 1]}}
    plain, short = get_app(feast), get_app(feast)
    shorten(short)
    with served(plain) as feasts, served(short) as own:
        bodies = [each.post("/get-online-features", json=body).json() for each in (feasts, own)]
    assert bodies[0] == bodies[1]
    names = bodies[1]["metadata"]["feature_names"]
    values = bodies[1]["results"][names.index("account")]["values"]
    assert values == [2**53 + 1, -(2**63) + 1, None, None, 2**53 + 1]


def test_a_row_that_is_too_old_has_no_values_online(feast: FeatureStore, world: World) -> None:
    rows = pushed(event_timestamp=[NOW - 3 * DAY])
    feast.push("accounts_push", rows, to=PushMode.ONLINE)
    for user in (7, "7"):
        found = feast.get_online_features(REFS, [{"user_id": user}]).to_dict()
        assert [found[name] for name in EXACT] == [[None]] * 4


def test_a_push_reaches_both_stores(feast: FeatureStore, world: World) -> None:
    feast.push("accounts_push", pushed(), to=PushMode.ONLINE_AND_OFFLINE)
    offline = feast.get_historical_features(asked(7), REFS).to_arrow()
    assert [offline[name][0].as_py() for name in NAMES] == [5, *EXACT.values()]
    online = feast.get_online_features(REFS, [{"user_id": 7}]).to_dict()
    seconds = {**EXACT, "opened": OPENED.replace(microsecond=0)}
    assert [online[name] for name in NAMES] == [[5], *([value] for value in seconds.values())]
    [row] = feast.provider.online_store.store(
        feast.config, feast.get_feature_view("accounts")
    ).read_many([7])
    assert row is not None
    assert row.vector[SCHEMA.position("balance")] == np.float32(0.1)


def test_what_a_push_cuts_off_a_time_comes_back_with_materialize(feast: FeatureStore) -> None:
    feast.push("accounts_push", pushed(), to=PushMode.ONLINE_AND_OFFLINE)
    feast.materialize(NOW - DAY, datetime.now(UTC))
    found = feast.get_online_features(REFS, [{"user_id": 7}]).to_dict()
    assert found["opened"] == [OPENED]


def test_a_missing_value_is_null_online_and_offline(feast: FeatureStore) -> None:
    rows = pushed(**{name: [None] for name in EXACT})
    feast.push("accounts_push", rows, to=PushMode.ONLINE_AND_OFFLINE)
    feast.write_to_online_store("accounts", pushed(user_id=[8], opened=[pd.NaT]))
    online = feast.get_online_features(REFS, [{"user_id": 7}, {"user_id": 8}]).to_dict()
    assert [online[name][0] for name in EXACT] == [None] * 4
    assert online["opened"][1] is None
    offline = feast.get_historical_features(asked(7), REFS).to_arrow()
    assert [offline[name][0].as_py() for name in EXACT] == [None] * 4


def write(feast: FeatureStore, *values: dict[str, Value]) -> None:
    """Write messages of users 1, 2, … as Feast's provider does."""
    view, store = feast.get_feature_view("accounts"), feast.provider.online_store
    rows = [
        (EntityKey(join_keys=["user_id"], entity_values=[Value(int64_val=n)]), each, NOW, NOW)
        for n, each in enumerate(values, 1)
    ]
    store.online_write_batch(feast.config, view, rows, None)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("account", Value(string_val="7"), r"account is '7' \(string_val\), expected a whole"),
        ("account", Value(double_val=7), r"account is '7.0' \(double_val\), expected a whole"),
        ("balance", Value(float_val=0.5), r"balance is '0.5' \(float_val\), expected a number"),
        ("balance", Value(double_val=float("inf")), "balance is 'inf', expected a number"),
        ("balance", Value(double_val=1e300), "balance is '1e[+]300', expected -3.4"),
        ("nick", Value(int64_val=7), r"nick is '7' \(int64_val\), expected a text"),
        ("nick", Value(string_val="a\0b"), "expected a text of at most 10,000 characters"),
        ("opened", Value(int64_val=7), r"opened is '7' \(int64_val\), expected a time"),
        ("opened", Value(unix_timestamp_val=10**15), "opened is 10+ seconds after 1970"),
    ],
)
def test_a_value_of_another_type_is_not_written_online(
    feast: FeatureStore, name: str, value: Value, expected: str
) -> None:
    with pytest.raises(InvalidValue, match=expected):
        write(feast, {name: value})
    assert feast.get_online_features(REFS, [{"user_id": 1}]).to_dict()["account"] == [None]


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("account", 1.5, "Row 1 of 'accounts': account is '1.5', expected a whole number"),
        ("account", float(2**53), "Row 1 of 'accounts': account is '9007199254740992.0'"),
        ("balance", "much", "Row 1 of 'accounts': balance is 'much', expected a number"),
        ("nick", 7, "Row 1 of 'accounts': nick is '7', expected a text"),
        ("opened", 7, "Row 1 of 'accounts': opened is '7', expected a time"),
    ],
)
def test_a_value_of_another_type_is_not_written_offline(
    feast: FeatureStore, column: str, value: Any, expected: str
) -> None:
    with pytest.raises(FeatureStoreError, match=expected):
        feast.write_to_offline_store("accounts", pushed(**{column: [value]}))
    found = feast.get_historical_features(asked(7), REFS).to_arrow()
    assert found["account"][0].as_py() is None


def test_digits_that_feast_has_rounded_are_refused(feast: FeatureStore) -> None:
    large, none = {"account": Value(int64_val=2**53)}, {"account": Value()}
    with pytest.raises(InvalidValue, match="account is 9007199254740992 in one of these rows and"):
        write(feast, large, none)
    write(feast, large)
    write(feast, none, {"account": Value(int64_val=2**53 - 1)})
    frame = pd.concat([pushed(), pushed(user_id=[8], account=[None])])
    frame["account"] = pd.array([2**53 + 1, None], dtype="Int64")
    with pytest.raises(InvalidValue, match="Write the rows without a value apart"):
        feast.push("accounts_push", frame, to=PushMode.ONLINE)


def test_feasts_null_of_times_is_missing(feast: FeatureStore) -> None:
    write(feast, {"opened": Value(unix_timestamp_val=NULL_TIMESTAMP_INT_VALUE)})
    found = feast.get_online_features(REFS, [{"user_id": 1}]).to_dict()
    assert found["opened"] == [None]


def test_an_older_row_does_not_win(feast: FeatureStore) -> None:
    feast.push("accounts_push", pushed(), to=PushMode.ONLINE)
    older = pushed(account=[1], event_timestamp=[NOW - timedelta(hours=1)])
    feast.push("accounts_push", older, to=PushMode.ONLINE)
    found = feast.get_online_features(REFS, [{"user_id": 7}]).to_dict()
    assert found["account"] == [2**53 + 1]
