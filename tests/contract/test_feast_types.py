"""Arrays, functions of timestamps and open vocabularies through Feast's calls."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from feast import FeatureStore
from feast.data_source import PushMode
from feast.feature_server import get_app
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RegistryConfig
from feast.types import Array, Float32, String

from feature_store.errors import DefinitionError, FeatureStoreError, InvalidValue
from feature_store.feast_plugin import identity
from feature_store.feast_plugin.conversion import ValueCodec
from feature_store.feast_plugin.definitions import feast_entities, feast_source, feast_view
from feature_store.feast_plugin.on_demand import on_demand_view, packed_view
from feature_store.feast_plugin.server.serving import shorten
from tests.worlds.accounts import SCHEMA, VIEW, random_rows
from tests.worlds.feast import World, by_feast, served

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
NAMES = ["age", "city", "taste", "lasted_days", "nick"]
REFS = [f"accounts:{name}" for name in NAMES]
TASTE = np.array([0.5, -0.25, 0.1, 3], np.float32).tolist()
KEY = EntityKey(join_keys=["user_id"], entity_values=[Value(int64_val=1)])
FIRST = {"age": 40, "city": "Oslo", "taste": TASTE, "lasted_days": 10.5, "nick": "Zoë"}


@pytest.fixture
def feast(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FeatureStore]:
    """A Feast project over the view: user 1 is `FIRST`, of user 2 nothing is known."""
    monkeypatch.setattr(identity, "VIEWS", (VIEW,))
    registry = RegistryConfig(path=str(tmp_path / "registry.db"))
    feast = world.feast_with(project="types", registry=registry)
    entities, source = feast_entities(VIEW), feast_source(VIEW)
    feast.apply([*entities, source, feast_view(VIEW, entities, source)])
    world.offline.vocabularies.learn(VIEW, {"city": ["Paris", "Oslo"]})
    rows = random_rows(2)
    rows.values[1] = np.nan
    rows.values[1, SCHEMA.position("city")] = 0
    assert rows.exact is not None
    rows.exact[1] = None
    rows.times[:] = np.datetime64((NOW - DAY).replace(tzinfo=None), "us")
    world.offline.append(rows, "user_id", NOW - DAY)
    yield feast
    with world.offline.postgres.transaction() as connection:
        connection.execute(f"DELETE FROM {world.offline.table(SCHEMA)}")
        connection.execute("DELETE FROM category_words")
    for key in world.redis.keys("types:*"):
        world.redis.delete(key)


def asked(*users: int) -> pd.DataFrame:
    return pd.DataFrame({"user_id": users, "event_timestamp": [NOW] * len(users)})


def online(feast: FeatureStore, *users: int) -> dict[str, list[Any]]:
    """By the planned way; Feast's own says the same."""
    rows = [{"user_id": user} for user in users]
    found = feast.get_online_features(REFS, rows).to_dict()
    assert by_feast(feast, REFS, rows).to_dict() == found
    return {name: found[name] for name in NAMES}


def whole_row(**changes: Any) -> pd.DataFrame:
    """A row of user 7 as a client has it."""
    row = {"user_id": 7, "age": 41, "city": "Rome", "member": True, "taste": [1.0, 2, 3, 4]}
    row |= {"balance": 0.1, "lasted_days": 1.0, "account": 7, "nick": "Al"}
    row |= dict.fromkeys(("opened", "closed", "event_timestamp", "created_timestamp"), NOW)
    return pd.DataFrame([row | changes])


def test_fields_have_the_types_of_lists_and_words(feast: FeatureStore) -> None:
    fields = {field.name: field for field in feast.get_feature_view("accounts").features}
    assert (fields["taste"].dtype, fields["city"].dtype) == (Array(Float32), String)
    assert fields["taste"].tags == {"kind": "array", "size": "4"}
    assert fields["taste"].description == "What they like."
    assert "taste_0" not in fields


def test_history_has_lists_and_words(feast: FeatureStore) -> None:
    job = feast.get_historical_features(asked(1, 2, 3), REFS)
    table = job.to_arrow()
    assert {name: table[name][0].as_py() for name in NAMES} == FIRST
    for place in (1, 2):
        assert [table[name][place].as_py() for name in NAMES] == [None] * 5
    assert list(job.to_df()["taste"][0]) == TASTE


def test_what_is_materialized_is_read_online(feast: FeatureStore) -> None:
    feast.materialize(NOW - 2 * DAY, NOW)
    found = online(feast, 1, 2, 3)
    assert {name: values[0] for name, values in found.items()} == FIRST
    assert [values[1:] for values in found.values()] == [[None, None]] * 5


@pytest.mark.parametrize("mode", [PushMode.ONLINE, PushMode.OFFLINE, PushMode.ONLINE_AND_OFFLINE])
def test_a_push_learns_words_and_keeps_lists(
    feast: FeatureStore, world: World, mode: PushMode
) -> None:
    feast.push("accounts_push", whole_row(), to=mode)
    expected = {"age": 41, "city": "Rome", "taste": [1, 2, 3, 4], "lasted_days": 1, "nick": "Al"}
    if mode != PushMode.OFFLINE:
        assert {name: values[0] for name, values in online(feast, 7).items()} == expected
    if mode != PushMode.ONLINE:
        table = feast.get_historical_features(asked(7), REFS).to_arrow()
        assert {name: table[name][0].as_py() for name in NAMES} == expected
    assert world.offline.vocabularies.schema(SCHEMA).words == {"city": ("Paris", "Oslo", "Rome")}


def test_a_reader_that_is_older_than_a_word_finds_it(feast: FeatureStore, world: World) -> None:
    feast.materialize(NOW - 2 * DAY, NOW)
    assert online(feast, 1)["city"] == ["Oslo"]
    view = world.offline.vocabularies.learn(VIEW, {"city": ["Lima"]})
    codes = view.definitions["city"].codes
    rows = random_rows(1)
    rows.values[0, SCHEMA.position("city")] = codes["Lima"]
    rows.times[:] = np.datetime64((NOW - timedelta(hours=1)).replace(tzinfo=None), "us")
    world.offline.append(rows, "user_id", NOW)
    feast.materialize(NOW - 2 * DAY, NOW)
    assert online(feast, 1)["city"] == ["Lima"]


def test_writers_at_once_lose_no_word(feast: FeatureStore, world: World) -> None:
    codec = ValueCodec(SCHEMA, world.offline.vocabularies)

    def write(place: int) -> float:
        row = (KEY, {"city": Value(string_val=f"C{place % 8}")}, NOW, NOW)
        matrix, _ = codec.matrix([row])
        return float(matrix.values[0, SCHEMA.position("city")])

    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(write, range(90)))
    known = world.offline.vocabularies.schema(SCHEMA).words["city"]
    assert [known[int(code) - 2] for code in codes] == [f"C{place % 8}" for place in range(90)]


@pytest.mark.parametrize("taste", [[1.0, 2, 3], [1.0, 2, 3, float("nan")]])
@pytest.mark.parametrize("mode", [PushMode.ONLINE, PushMode.OFFLINE])
def test_a_list_that_is_none_of_the_view_is_refused(
    feast: FeatureStore, taste: list[float], mode: PushMode
) -> None:
    with pytest.raises((FeatureStoreError, InvalidValue), match="taste"):
        feast.push("accounts_push", whole_row(taste=taste), to=mode)


def test_the_server_sends_what_feasts_own_does(feast: FeatureStore) -> None:
    feast.materialize(NOW - 2 * DAY, NOW)
    body = {"features": REFS, "entities": {"user_id": [1, 2, 3]}}
    plain, short = get_app(feast), get_app(feast)
    shorten(short)
    with served(plain) as feasts, served(short) as own:
        bodies = [each.post("/get-online-features", json=body).json() for each in (feasts, own)]
    assert bodies[0] == bodies[1]
    place = bodies[1]["metadata"]["feature_names"].index("taste")
    assert bodies[1]["results"][place]["values"][1:] == [None, None]


def test_an_on_demand_view_of_an_open_vocabulary_is_refused(feast: FeatureStore) -> None:
    table = feast.get_feature_view("accounts")
    with pytest.raises(DefinitionError, match="'accounts' has an open vocabulary"):
        on_demand_view(VIEW, packed_view(VIEW, feast_entities(VIEW), table))
