"""Windowed views under Feast whose keys are texts, or of several parts, or called otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from feast import FeatureStore
from feast.data_source import PushMode
from feast.repo_config import RegistryConfig

from feature_store.definitions.entity import Entity
from feature_store.definitions.windowed_view import ActivityView
from feature_store.errors import FeatureStoreError
from feature_store.feast_plugin import identity
from feature_store.feast_plugin.definitions import feast_entities, feast_source, feast_view
from feature_store.feast_plugin.online.planned_response import PlannedResponse
from feature_store.offline.entity_keys import find_keys
from tests.worlds.feast import World, by_feast, outcome

NOW = datetime.now(UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
COUNT, SUM = "flights_count_1d", "amount_sum_1d"


@dataclass(frozen=True)
class Case:
    """A windowed view of ours, and two keys of it."""

    view: ActivityView
    keys: tuple[Any, Any]

    @property
    def columns(self) -> list[dict[str, Any]]:
        """The columns of each key."""
        return [self.view.key.values(self.view.key.read(key)) for key in self.keys]

    @property
    def refs(self) -> list[str]:
        return [f"{self.view.name}:{name}" for name in (COUNT, SUM)]

    def events(self) -> pd.DataFrame:
        """Two events of the first key, one of the second."""
        first, second = self.columns
        return pd.DataFrame([first, first, second]).assign(
            event_id=["a", "b", "c"],
            event_timestamp=[NOW - HOUR, NOW - 2 * HOUR, NOW - HOUR],
            event_type=["flight"] * 3,
            amount_cents=[150, 100, None],
        )

    def asked(self, time: datetime = NOW) -> pd.DataFrame:
        return pd.DataFrame(self.columns).assign(event_timestamp=[time] * 2)


def case_of(name: str, entity: Entity, *keys: Any) -> Case:
    view = ActivityView(name, entity, windows={"1d": "1h"}, ttl="30d")
    view.count("flights", description="Flights")
    view.sum("amount", unit="EUR", description="What they cost")
    return Case(view, (keys[0], keys[1]))


CASES = {
    "text": case_of("flown", Entity("tail_number", key="string"), "N14228", "n/ü 'x'"),
    "composite": case_of(
        "left_gates", Entity("gate", key={"airport": "string", "number": "integer"}),
        ("JFK", 7), ("LAX", 7),
    ),
    "whole": case_of("shops_left", Entity("shop_id"), 7, -3),
}  # fmt: skip


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def feast(
    case: Case, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FeatureStore]:
    """A Feast project over the view, whose events have been pushed."""
    monkeypatch.setattr(identity, "VIEWS", (case.view,))
    registry = RegistryConfig(path=str(tmp_path / "registry.db"))
    feast = world.feast_with(project="flying", registry=registry)
    entities, source = feast_entities(case.view), feast_source(case.view)
    feast.apply([*entities, source, feast_view(case.view, entities, source, 30 * DAY)])
    feast.push(f"{case.view.name}_push", case.events(), to=PushMode.OFFLINE)
    yield feast
    with world.offline.postgres.transaction() as connection:
        connection.execute("DELETE FROM user_events")
    for key in [*world.redis.keys("flying:*"), *world.redis.keys(f"*:{case.view.name}:*")]:
        world.redis.delete(key)


def values(frame: dict[str, list[Any]] | pd.DataFrame, name: str) -> list[Any]:
    return [None if pd.isna(value) else value for value in frame[name]]


def test_pushed_events_are_counted_for_their_keys(
    case: Case, feast: FeatureStore, world: World
) -> None:
    found = feast.get_online_features(case.refs, case.columns)
    assert isinstance(found, PlannedResponse)
    assert found.to_dict()[COUNT] == [2, 1]
    assert found.to_dict()[SUM] == [2.5, 0]
    asked = case.refs, [*case.columns, case.columns[0]]
    assert outcome(lambda: feast.get_online_features(*asked)) == outcome(
        lambda: by_feast(feast, *asked)
    )
    entity = case.view.key
    texts = [entity.text(entity.read(key)) for key in case.keys]
    ids = np.array([entity.identity(entity.read(key)) for key in case.keys])
    assert find_keys(world.offline.postgres, entity, ids) == texts


def test_rows_of_the_project_of_the_settings_follow_too(
    case: Case, feast: FeatureStore, world: World
) -> None:
    ours = world.online.of(case.view.schema)
    ids = [case.view.key.identity(case.view.key.read(key)) for key in case.keys]
    assert [row.vector[0] for row in ours.read_many(ids) if row is not None] == [2, 1]


def test_history_is_made_of_the_events_of_the_key(case: Case, feast: FeatureStore) -> None:
    for time, counts in ((NOW, [2, 1]), (NOW - 90 * 60 * timedelta(seconds=1), [1, None])):
        found = feast.get_historical_features(case.asked(time), case.refs).to_df()
        assert values(found, COUNT) == counts
        columns = list(case.view.key.columns)
        assert found[columns].to_dict("records") == case.columns
    nobody = case.asked().assign(**{case.view.key.columns[0]: [None, None]})
    assert values(feast.get_historical_features(nobody, case.refs).to_df(), COUNT) == [None, None]


def test_without_entity_rows_there_is_one_for_each_event(case: Case, feast: FeatureStore) -> None:
    every = feast.get_historical_features(
        None, case.refs, start_date=NOW - DAY, end_date=NOW
    ).to_df()
    columns = list(case.view.key.columns)
    of_first = (every[columns] == pd.Series(case.columns[0])).all(axis=1)
    assert len(every) == 3
    assert values(every[of_first].sort_values("event_timestamp"), COUNT) == [None, 1]


def test_pulls_have_the_columns_of_the_key(case: Case, feast: FeatureStore) -> None:
    view, columns = feast.get_feature_view(case.view.name), list(case.view.key.columns)
    store = feast.provider.offline_store
    given = (feast.config, view.batch_source, columns, [COUNT])
    times = ("event_timestamp", "created_timestamp", NOW - DAY, NOW)
    latest = store.pull_latest_from_table_or_query(*given, *times).to_df()
    every = store.pull_all_from_table_or_query(*given, *times).to_df()
    counted = {
        tuple(row[:-1]): row[-1] for row in latest[[*columns, COUNT]].itertuples(index=False)
    }
    assert counted == {tuple(key.values()): n for key, n in zip(case.columns, (2, 1), strict=True)}
    assert sorted(every[COUNT]) == [1, 1, 2]


def test_materialize_makes_the_rows_anew(case: Case, feast: FeatureStore, world: World) -> None:
    for key in world.redis.keys("flying:*"):
        world.redis.delete(key)
    assert feast.get_online_features(case.refs, case.columns).to_dict()[COUNT] == [None, None]
    feast.materialize(NOW - DAY, NOW)
    assert feast.get_online_features(case.refs, case.columns).to_dict()[COUNT] == [2, 1]


def test_an_event_whose_key_cannot_be_is_refused(case: Case, feast: FeatureStore) -> None:
    column = case.view.key.columns[0]
    bad = case.events().assign(**{column: [1.5, 1.5, 1.5]}, event_id=["x", "y", "z"])
    with pytest.raises(FeatureStoreError, match=f"Row 1 of '{case.view.name}': {column} is '1.5'"):
        feast.push(f"{case.view.name}_push", bad, to=PushMode.OFFLINE)
