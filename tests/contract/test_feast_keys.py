"""Feast's calls over views of ours whose keys are texts, or of several parts."""

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
from feast.feature_server import get_app
from feast.repo_config import RegistryConfig

from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.entity import Entity
from feature_store.definitions.view import FeatureView
from feature_store.errors import FeatureStoreError, InvalidValue
from feature_store.feast_plugin import identity
from feature_store.feast_plugin.definitions import feast_entities, feast_source, feast_view
from feature_store.feast_plugin.online.planned_response import PlannedResponse
from feature_store.feast_plugin.server.serving import shorten
from feature_store.offline.entity_keys import find_keys, note_keys
from tests.worlds.feast import World, by_feast, outcome, served

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Case:
    """A view of ours, and two keys of it."""

    view: FeatureView
    keys: tuple[Any, Any]

    def rows(self, **columns: list[Any]) -> pd.DataFrame:
        """Entity rows of both keys."""
        values = [self.view.key.values(self.view.key.read(key)) for key in self.keys]
        return pd.DataFrame(values).assign(**columns)

    @property
    def identities(self) -> np.ndarray:
        entity = self.view.key
        return np.array([entity.identity(entity.read(key)) for key in self.keys])


def case_of(name: str, entity: Entity, *keys: Any) -> Case:
    view = FeatureView(name, entity)
    view.raw("distance", integer=True, description="Far.")
    view.raw("member", boolean=True, description="Whether a member.")
    return Case(view, (keys[0], keys[1]))


CASES = {
    "text": case_of("planes", Entity("tail_number", key="string"), "N14228", "n/ü 'x'"),
    "composite": case_of(
        "gates", Entity("gate", key={"airport": "string", "number": "integer"}),
        ("JFK", 7), ("LAX", 7),
    ),
}  # fmt: skip


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def feast(
    case: Case, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FeatureStore]:
    """A Feast project over the view, with a row of each key offline, a day old, and none online."""
    monkeypatch.setattr(identity, "VIEWS", (case.view,))
    offline, schema = world.offline, case.view.schema
    registry = RegistryConfig(path=str(tmp_path / "registry.db"))
    feast = world.feast_with(project="keyed", registry=registry)
    entities, source = feast_entities(case.view), feast_source(case.view)
    feast.apply([*entities, source, feast_view(case.view, entities, source)])
    with offline.postgres.transaction() as connection:
        entity = case.view.key
        texts = [entity.text(entity.read(key)) for key in case.keys]
        note_keys(connection, entity, case.identities, texts)
    times = np.full(2, np.datetime64((NOW - DAY).replace(tzinfo=None), "us"))
    values = np.array([[100, 1], [200, np.nan]], dtype=np.float32)
    offline.append(FeatureMatrix(values, case.identities, times, schema), entity.name, NOW - DAY)
    yield feast
    with offline.postgres.transaction() as connection:
        connection.execute(f"DELETE FROM {offline.table(schema)}")


def refs(case: Case) -> list[str]:
    return [f"{case.view.name}:distance", f"{case.view.name}:member"]


def test_history_is_joined_by_the_key_itself(case: Case, feast: FeatureStore) -> None:
    for time, distances in ((NOW, [100, 200]), (NOW - 2 * DAY, [None, None])):
        rows = case.rows(event_timestamp=[time, time])
        found = feast.get_historical_features(rows, refs(case)).to_df()
        assert found[list(case.view.key.columns)].equals(rows[list(case.view.key.columns)])
        assert [None if pd.isna(d) else d for d in found["distance"]] == distances
    found = feast.get_historical_features(case.rows(event_timestamp=[NOW] * 2), refs(case)).to_df()
    assert [None if pd.isna(m) else bool(m) for m in found["member"]] == [True, None]
    every = feast.get_historical_features(
        None, refs(case), start_date=NOW - 2 * DAY, end_date=NOW
    ).to_df()
    assert sorted(every["distance"]) == [100, 200]


def test_what_is_materialized_is_read_online_by_the_key(case: Case, feast: FeatureStore) -> None:
    columns = list(case.view.key.columns)
    asked = case.rows().to_dict("records")
    before = feast.get_online_features(refs(case), asked).to_dict()
    assert before["distance"] == [None, None]
    feast.materialize(NOW - 2 * DAY, datetime.now(UTC))
    found = feast.get_online_features(refs(case), asked).to_dict()
    assert found["distance"] == [100, 200]
    assert found["member"] == [True, None]
    assert [found[name] for name in columns] == [case.rows()[name].tolist() for name in columns]
    twice = feast.get_online_features(refs(case), [asked[1], asked[0], asked[1]]).to_dict()
    assert twice["distance"] == [200, 100, 200]
    unknown = {name: "nobody" if name != "number" else 8 for name in columns}
    assert feast.get_online_features(refs(case), [unknown]).to_dict()["distance"] == [None]


def test_what_is_pushed_goes_to_both_stores_with_its_key(
    case: Case, feast: FeatureStore, world: World
) -> None:
    with world.offline.postgres.transaction() as connection:
        connection.execute("DELETE FROM entity_keys")
    rows = case.rows(
        event_timestamp=[NOW, NOW], created_timestamp=[NOW, NOW],
        distance=[300, 400], member=[False, True],
    )  # fmt: skip
    feast.push(f"{case.view.name}_push", rows, to=PushMode.ONLINE_AND_OFFLINE)
    found = feast.get_online_features(refs(case), case.rows().to_dict("records")).to_dict()
    assert found["distance"] == [300, 400]
    assert found["member"] == [False, True]
    entity = case.view.key
    texts = find_keys(world.offline.postgres, entity, case.identities)
    assert texts == [entity.text(entity.read(key)) for key in case.keys]
    matrix = world.offline.as_of(
        case.view.schema, entity.name, case.identities,
        np.full(2, np.datetime64((NOW + DAY).replace(tzinfo=None), "us")),
    )  # fmt: skip
    assert matrix.values[:, 0].tolist() == [300, 400]


def test_a_key_of_another_type_is_refused(case: Case, feast: FeatureStore) -> None:
    columns = list(case.view.key.columns)
    if "number" in columns:
        with pytest.raises((ValueError, TypeError)):  # Feast's own
            feast.get_online_features(refs(case), [{"airport": "JFK", "number": "seven"}])
    else:
        long = {"tail_number": "x" * 129}
        with pytest.raises(InvalidValue, match=r"tail_number is 'xxx.*expected a text of 1 to 128"):
            feast.get_online_features(refs(case), [long])
    rows = case.rows(event_timestamp=[NOW, NOW]).assign(**{columns[0]: [1.5, 2.5]})
    with pytest.raises(FeatureStoreError, match=f"{columns[0]} is '1.5', expected a text"):
        feast.get_historical_features(rows, refs(case)).to_df()


def test_a_whole_number_that_would_become_another_is_not_pushed(
    case: Case, feast: FeatureStore, world: World
) -> None:
    rows = case.rows(
        event_timestamp=[NOW, NOW], created_timestamp=[NOW, NOW],
        distance=[16_777_217, 400], member=[False, True],
    )  # fmt: skip
    for to in (PushMode.OFFLINE, PushMode.ONLINE):
        with pytest.raises(InvalidValue, match="distance is '16777217"):
            feast.push(f"{case.view.name}_push", rows, to=to)
    stored = world.offline.postgres.query(f"SELECT distance FROM {case.view.name}")
    assert sorted(stored["distance"].to_list()) == [100, 200]


def two_views(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FeatureStore:
    """A Feast project over both views, with a row of each key online."""
    views = [each.view for each in CASES.values()]
    monkeypatch.setattr(identity, "VIEWS", tuple(views))
    registry = RegistryConfig(path=str(tmp_path / "both.db"))
    feast = world.feast_with(project="both", registry=registry)
    for number, case in enumerate(CASES.values()):
        entities, source = feast_entities(case.view), feast_source(case.view)
        feast.apply([*entities, source, feast_view(case.view, entities, source)])
        rows = case.rows(
            event_timestamp=[NOW, NOW], created_timestamp=[NOW, NOW],
            distance=[number, number + 10], member=[True, None],
        )  # fmt: skip
        feast.push(f"{case.view.name}_push", rows, to=PushMode.ONLINE)
    return feast


PLANES, GATES = "planes:distance", "gates:member"
GATE = {"airport": "JFK", "number": 7}
PLANE = {"tail_number": "n/ü 'x'"}
REQUESTS: dict[str, tuple[list[str], Any]] = {
    "a text": ([PLANES], [PLANE]),
    "texts, some twice": ([PLANES], [PLANE, {"tail_number": "nobody"}, PLANE]),
    "texts by column": ([PLANES], {"tail_number": ["N14228", "n/ü 'x'", "N14228"]}),
    "a text with white space around it": ([PLANES], [{"tail_number": " N14228 "}, PLANE]),
    "several parts": ([GATES], [GATE, {"airport": "LAX", "number": 7}, GATE]),
    "parts in another order": ([GATES], [{"number": 7, "airport": "JFK"}]),
    "parts by column": ([GATES], {"number": [7, 8], "airport": ["JFK", "JFK"]}),
    "both": (
        [PLANES, GATES],
        [GATE | PLANE, GATE | {"tail_number": "N14228"}, GATE | PLANE],
    ),
    "no text": ([PLANES], [{"tail_number": 7}]),
    "an empty text": ([PLANES], [{"tail_number": ""}]),
    "a text that is too long": ([PLANES], [{"tail_number": "x" * 129}]),
    "a part that is no number": ([GATES], [GATE | {"number": "7"}]),
    "a part that is missing": ([GATES], [{"airport": "JFK"}]),
    "a part that is null": ([GATES], [GATE | {"airport": None}]),
    "a part beyond 64 bits": ([GATES], [GATE | {"number": -(2**63)}]),
    "columns of different lengths": ([GATES], {"number": [7, 8], "airport": ["JFK"]}),
    "rows that differ": ([GATES], [GATE, {"airport": "JFK"}]),
}
PLANNED = {
    *("a text", "texts, some twice", "texts by column", "a text with white space around it"),
    *("several parts", "parts in another order", "parts by column", "both"),
}


def test_planned_reads_answer_as_feasts_own_way(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feast = two_views(world, tmp_path, monkeypatch)
    for name, (features, rows) in REQUESTS.items():
        for full_names in (False, True):
            asked = {"full_feature_names": full_names}
            expected = outcome(lambda r=(features, rows), a=asked: by_feast(feast, *r, **a))
            found = outcome(lambda r=(features, rows), a=asked: feast.get_online_features(*r, **a))
            assert (name, found) == (name, expected)
        if expected[0] == "answered":
            answer = feast.get_online_features(features, rows)
            assert (name, isinstance(answer, PlannedResponse)) == (name, name in PLANNED)


def test_the_server_sends_planned_answers_as_feasts_own(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feast = two_views(world, tmp_path, monkeypatch)
    plain, short = get_app(feast), get_app(feast)
    shorten(short)
    rows = {"number": [7, 7], "airport": ["JFK", 'J"K'], "tail_number": ["n/ü 'x'", "nobody"]}
    with served(plain) as feasts, served(short) as own:
        for features in ([PLANES, GATES], [PLANES], [GATES]):
            body = {"features": features, "entities": rows}
            bodies = [each.post("/get-online-features", json=body).json() for each in (feasts, own)]
            assert bodies[0] == bodies[1]
