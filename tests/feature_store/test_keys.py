"""One checklist for every kind of key, from a file through both stores to a training set."""

from __future__ import annotations

import csv
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.command_line import Stopwatch
from configs.feature_config import EventTimeConfig, FeatureConfig
from configs.sources import FileSourceConfig, SourceFile
from feature_store import versions
from feature_store.definitions.engine import Engine
from feature_store.definitions.entity import Entity
from feature_store.definitions.view import FeatureView
from feature_store.definitions.windowed_view import ActivityView
from feature_store.errors import FeatureStoreError, InvalidEvent, KeyCollision, SourceError
from feature_store.ingest.compute import compute
from feature_store.ingest.feature_file import read_rows, refill, write_rows
from feature_store.ingest.materialize import materialize
from feature_store.ingest.prepared_rows import prepare, reading_prepared
from feature_store.ingest.staging import Staging, Stored
from feature_store.offline.entity_keys import find_keys, note_keys
from feature_store.offline_store import OfflineStore
from feature_store.online_store import OnlineStore
from feature_store.profiles.writer import ProfileWriter
from feature_store.references import Reference
from feature_store.sources.files import FileSource
from feature_store.stream.events import EventParser, fields_of
from feature_store.training_data import training_frame, training_rows
from feature_store.windows.writer import ActivityWriter

START = datetime(2026, 1, 1, tzinfo=UTC)
SPAN = (START, START + timedelta(days=30))


@dataclass(frozen=True)
class Case:
    """A kind of key: the entity, two keys, and one of another kind, as a file has them."""

    entity: Entity
    keys: tuple[Any, Any]
    wrong: Any
    complaint: str

    @property
    def view(self) -> FeatureView:
        view = FeatureView("flights", self.entity, missing=("?",))
        view.raw("distance", unit="km", integer=True, valid_range=(0, 20_000), description="Far.")
        view.raw("origin", categories=("JFK", "LAX"), description="Where it begins.")
        return view

    @property
    def identities(self) -> list[int]:
        return [self.entity.identity(self.entity.read(key)) for key in self.keys]

    def config(self, file: Path) -> FeatureConfig:
        columns = self.entity.columns
        return FeatureConfig(
            event_time=EventTimeConfig(start=START, end=SPAN[1]),
            source=FileSourceConfig(
                files=(SourceFile(path=str(file)),),
                key_column=columns[0] if len(columns) == 1 else columns,
                event_time_column="time",
                label_column="late",
                label_values={"no": 0, "yes": 1},
            ),
        )

    def write(self, file: Path, keys: list[Any], distances: list[int]) -> None:
        with file.open("w", newline="") as out:
            writer = csv.DictWriter(
                out, dict.fromkeys([*self.entity.columns, "origin", "time", "distance", "late"])
            )
            writer.writeheader()
            for place, (key, distance) in enumerate(zip(keys, distances, strict=True)):
                values = key if isinstance(key, tuple) else (key,)
                row = {"origin": "JFK", **dict(zip(self.entity.columns, values, strict=True))}
                time = START + timedelta(days=place)
                writer.writerow(row | {"time": time, "distance": distance, "late": "yes"})


CASES = {
    "whole": Case(Entity("flight"), (7, 8), "N7", "flight is 'N7', expected a whole number"),
    "text": Case(
        Entity("tail_number", key="string"),
        ("N14228", "Ünïcode, \"quoted\" 'and' so on"),
        "x" * 129,
        "tail_number is 'xxx",
    ),
    # A part of the key may be a feature, too.
    "composite": Case(
        Entity("route", key={"origin": "string", "gate": "integer"}),
        (("JFK", 7), ("LAX", 7)),
        ("JFK", "B7"),
        "gate is 'B7', expected a whole number",
    ),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def online(case: Case, online: OnlineStore) -> OnlineStore:
    return online.of(case.view.schema)


def store(case: Case, file: Path, offline: OfflineStore, online: OnlineStore) -> Stored:
    """Compute and store as the pipeline does."""
    view, config = case.view, case.config(file)
    with offline.postgres.transaction() as connection:
        staging = Staging(connection, view.schema, view.entity)
        source = FileSource(config.source, file.parent, {}, name="flights", is_counted=False)
        compute(source.read(), staging, view, config, None, Stopwatch(), SPAN[1])
        versions.start_fill(offline, online, view.entity)
        stored = staging.store()
    materialize(offline, online, stored.keys, SPAN[1])
    versions.switch(offline, online, 0)
    return stored


def test_a_key_leads_to_its_own_rows_in_both_stores(case, offline, online, tmp_path):
    case.write(tmp_path / "f.csv", list(case.keys), [100, 200])
    assert store(case, tmp_path / "f.csv", offline, online).added == 2

    one, other = case.identities
    assert online.read(one).vector.tolist() == [100, 2]
    assert online.read(other).vector.tolist()[0] == 200
    asked = np.array([other, one, other + 1]), np.full(3, np.datetime64("2026-01-20", "us"))
    matrix, found = offline.historical(case.view.schema, case.view.entity, *asked)
    assert matrix.values[:2, 0].tolist() == [200, 100]
    assert found.tolist() == [True, True, False]

    assert store(case, tmp_path / "f.csv", offline, online).added == 0
    case.write(tmp_path / "f.csv", list(case.keys), [100, 300])
    assert store(case, tmp_path / "f.csv", offline, online).added == 1
    assert online.read(other).vector.tolist()[0] == 300
    assert online.read(one).vector.tolist()[0] == 100


def test_people_read_the_key_itself(case, offline, online, tmp_path):
    case.write(tmp_path / "f.csv", list(case.keys), [100, 200])
    store(case, tmp_path / "f.csv", offline, online)

    shown = offline.postgres.query("SELECT * FROM flights ORDER BY distance")
    names = [name for name in case.entity.columns if name != "origin"]
    wanted = [case.entity.values(case.entity.read(key)) for key in case.keys]
    assert shown.select(names).to_dicts() == [{n: key[n] for n in names} for key in wanted]

    references = [Reference(case.view, "distance")]
    frame, labels = training_frame(offline, references, "late", *SPAN)
    assert list(frame.index.names) == list(case.entity.columns)
    assert set(frame.index) == set(case.keys)
    assert frame.loc[case.keys[1], "distance"] == 200
    assert labels.tolist() == [1, 1]


def test_rows_go_through_files_with_their_keys(case, offline, online, tmp_path):
    case.write(tmp_path / "f.csv", list(case.keys), [100, 200])
    store(case, tmp_path / "f.csv", offline, online)
    view = case.view
    rows = training_rows(offline, view.schema, view.entity, *SPAN)
    write_rows(tmp_path / "rows.parquet", rows, view.entity)
    again = read_rows(tmp_path / "rows.parquet", view.schema, view.entity)
    assert again.features.keys.tolist() == rows.features.keys.tolist()

    offline.postgres.query("SELECT 1")
    with offline.postgres.transaction() as connection:
        connection.execute("DELETE FROM entity_keys")
    refill(offline, online, again, view.entity)
    texts = find_keys(offline.postgres, case.entity, np.array(case.identities))
    assert texts == [case.entity.text(case.entity.read(key)) for key in case.keys]


def test_a_prepared_table_keeps_the_keys(case, offline, online, tmp_path):
    case.write(tmp_path / "f.csv", list(case.keys), [100, 200])
    config = case.config(tmp_path / "f.csv")
    source = FileSource(config.source, tmp_path, {}, name="flights", is_counted=False)
    prepared = prepare(source, case.view, config)
    assert prepared.refused == 0
    prepared.frame.write_parquet(tmp_path / "p.parquet")
    config = reading_prepared(config, case.view, str(tmp_path / "p.parquet"))
    assert config.source.key_columns == case.entity.columns
    keys = prepared.frame.select(case.entity.columns).rows()
    assert keys == [tuple(case.entity.values(case.entity.read(key)).values()) for key in case.keys]


def test_one_bad_key_is_quarantined_and_keys_of_another_type_are_refused_at_once(
    case, offline, online, tmp_path
):
    file = tmp_path / "f.csv"
    case.write(file, [case.keys[0], case.wrong], [100, 200])
    stored = store(case, file, offline, online)
    assert stored.added == 1
    [reason] = offline.postgres.query("SELECT reason FROM quarantine")["reason"]
    assert reason.startswith(case.complaint)

    case.write(file, [case.wrong] * 25, [100] * 25)
    with pytest.raises(SourceError, match="None of the first 25 rows has a key of") as caught:
        store(case, file, offline, online)
    assert case.complaint in str(caught.value)
    assert "say so where it is defined: Entity(" in str(caught.value)


def test_a_key_in_other_columns_than_the_entity_has_is_refused(case, tmp_path):
    file = tmp_path / "f.csv"
    case.write(file, [case.keys[0]], [100])
    config = case.config(file)
    columns = (*config.source.key_columns, "distance")
    source = config.source.model_copy(update={"key_column": columns})
    config = config.model_copy(update={"source": source})
    reading = FileSource(config.source, tmp_path, {}, name="flights", is_counted=False)
    with pytest.raises(SourceError, match=r"The key of .* is .* and 'source.key_column' says"):
        prepare(reading, case.view, config)


def test_of_two_keys_with_one_identity_the_second_is_refused(offline, online, tmp_path):
    case = CASES["text"]
    with offline.postgres.transaction() as connection:
        note_keys(connection, case.entity, np.array(case.identities[:1]), ["N99999"])
    case.write(tmp_path / "f.csv", list(case.keys), [100, 200])
    with pytest.raises(KeyCollision, match=r"one identity: 'N99999' and 'N14228'. Nothing was"):
        store(case, tmp_path / "f.csv", offline, online.of(case.view.schema))
    assert find_keys(offline.postgres, case.entity, np.array(case.identities)) == ["N99999", None]


def test_rows_without_keys_cannot_be_counted_where_a_key_is_a_text(tmp_path):
    case = CASES["text"]
    case.write(tmp_path / "f.csv", list(case.keys), [100, 200])
    config = case.config(tmp_path / "f.csv")
    source = config.source.model_copy(update={"key_column": None})
    config = config.model_copy(update={"source": source})
    reading = FileSource(config.source, tmp_path, {}, name="flights", is_counted=True)
    with pytest.raises(SourceError, match=r"'source.key_column' says \(its rows, counted\)"):
        prepare(reading, case.view, config)


def test_features_of_two_entities_do_not_make_one_training_set(offline):
    references = [Reference(case.view, "distance") for case in CASES.values()]
    with pytest.raises(FeatureStoreError, match="no one key leads to both"):
        training_frame(offline, references, "late", *SPAN)


def fields(case: Case, key: Any, **others: Any) -> dict[bytes, bytes]:
    """An event of a key as a stream holds it."""
    columns = case.entity.values(case.entity.read(key))
    given = {"event_id": f"e-{key}", "event_timestamp": "2026-02-01T00:00:00Z", **columns, **others}
    return {name.encode(): str(value).encode() for name, value in given.items()}


def test_a_change_out_of_a_stream_finds_the_row_of_its_key(case, offline, online, tmp_path):
    case.write(tmp_path / "f.csv", list(case.keys), [100, 200])
    store(case, tmp_path / "f.csv", offline, online)
    parser, writer = EventParser(case.view), ProfileWriter(Engine(case.view), offline, online)
    change = {"kind": "profile", "attributes": '{"distance": 300}'}
    changes = [parser.parse(fields(case, key, **change)) for key in case.keys]
    assert [each.key for each in changes] == case.identities
    assert writer.apply(changes, SPAN[1] + timedelta(days=30)) == 2
    assert [online.read(each).vector[0] for each in case.identities] == [300, 300]
    if not case.entity.is_whole:
        again = {name.encode(): value.encode() for name, value in fields_of(changes[0]).items()}
        assert parser.parse(again) == changes[0]
        assert parser.parse(again).key_fields == changes[0].key_fields


def test_events_out_of_a_stream_are_counted_for_their_key(case, offline, redis):
    view = ActivityView("flown", case.entity, windows={"1d": "1h"}, ttl="30d")
    view.count("events", description="Flights")
    online = OnlineStore(redis, f"test{uuid.uuid4().hex[:8]}", view.schema)
    online.clock = lambda: datetime(2026, 2, 1, 1, tzinfo=UTC)
    writer, parser = ActivityWriter(offline.postgres, online), EventParser(case.view, case.entity)
    flown = {"kind": "activity", "event_type": "flown"}
    events = [parser.parse(fields(case, key, **flown)) for key in case.keys]
    assert writer.apply(events, SPAN[1] + timedelta(days=30)) == 2
    assert [online.read(each).vector.tolist() for each in case.identities] == [[1], [1]]
    texts = find_keys(offline.postgres, case.entity, np.array(case.identities))
    assert texts == [case.entity.text(case.entity.read(key)) for key in case.keys]


def test_an_event_whose_key_is_none_is_refused_with_what_was_expected(case):
    event = fields(case, case.keys[0], kind="activity", event_type="flown")
    name = case.entity.columns[-1].encode()
    for bad in ({**event, name: b""}, {k: v for k, v in event.items() if k != name}):
        with pytest.raises(InvalidEvent, match=f"{name.decode()} is .*, expected"):
            EventParser(case.view).parse(bad)
