"""Arrays, and functions of timestamps: every way in, both stores, every way out."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from configs.command_line import Stopwatch
from configs.feature_config import EventTimeConfig, FeatureConfig
from configs.sources import FileSourceConfig, SourceFile
from feature_store import versions
from feature_store.definitions.engine import Engine
from feature_store.definitions.schema import FeatureSchema
from feature_store.definitions.view import FeatureView
from feature_store.errors import DefinitionError, InvalidEvent, InvalidValue, UnknownFeature
from feature_store.ingest.array_columns import parse_array
from feature_store.ingest.compute import compute
from feature_store.ingest.materialize import materialize
from feature_store.ingest.staging import Staging
from feature_store.offline_store import OfflineStore
from feature_store.online_store import OnlineStore
from feature_store.profiles.writer import ProfileChange, ProfileWriter
from feature_store.references import Reference
from feature_store.sources.files import FileSource
from feature_store.stream.events import EventParser
from feature_store.training_data import training_frame
from tests.worlds.typed_views import FACE, FACES, STORED, VISITS, face_view, visit_view

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def ingest(view: FeatureView, frame: pl.DataFrame, folder: Path, offline: OfflineStore,
           online: OnlineStore, path: str) -> None:  # fmt: skip
    """Bring a file of these rows into both stores."""
    frame = frame.with_columns(time=pl.lit("2026-02-01"), late=pl.lit("no"))
    if path.endswith(".csv"):
        frame.write_csv(folder / path)
    else:
        frame.write_parquet(folder / path)
    config = FeatureConfig(
        event_time=EventTimeConfig(start=NOW - timedelta(days=90), end=NOW),
        source=FileSourceConfig(
            files=(SourceFile(path=path),),
            key_column="user_id",
            event_time_column="time",
            label_column="late",
            label_values={"no": 0, "yes": 1},
        ),
    )
    source = FileSource(config.source, folder, {}, name=view.name, is_counted=False)
    with offline.postgres.transaction() as connection:
        staging = Staging(connection, view.schema, view.entity)
        compute(source.read(), staging, view, config, None, Stopwatch(), NOW)
        versions.start_fill(offline, online, view.entity)
        stored = staging.store()
    materialize(offline, online, stored.keys, NOW)
    versions.switch(offline, online, 0)


@pytest.mark.parametrize("path", ["faces.csv", "faces.parquet"])
def test_a_list_comes_back_to_the_bit_from_both_stores(offline, online, tmp_path, path):
    online = online.of(FACES.schema)
    lists: list[Any] = [FACE, None]
    if path.endswith(".csv"):
        lists = [json.dumps(FACE), " ?"]
    frame = pl.DataFrame({"user_id": [1, 2], "age": [30, None], "face": lists})
    ingest(FACES, frame, tmp_path, offline, online, path)

    row = online.read(1)
    decoded = FACES.schema.decode(row.vector)
    assert decoded == {"age": 30, "face": STORED, "first_two": decoded["first_two"]}
    nothing = {"age": None, "face": None, "first_two": None}
    assert FACES.schema.decode(online.read(2).vector) == nothing
    users, times = np.array([2, 1]), np.full(2, np.datetime64("2026-02-02", "us"))
    matrix, found = offline.historical(FACES.schema, "user_id", users, times)
    assert found.all()
    assert [FACES.schema.decode(vector) for vector in matrix.values] == [nothing, decoded]

    shown = offline.postgres.query("SELECT face FROM faces ORDER BY user_id")["face"].to_list()
    assert shown == [STORED, None]
    frame, _ = training_frame(
        offline, [Reference(FACES, "face")], "late", NOW - timedelta(days=60), NOW
    )
    assert frame["face"].tolist() == [STORED, None]


def test_what_is_no_such_list_is_quarantined_with_its_reason(offline, online, tmp_path):
    bad = ["[1, 2]", "[1, 2, null]", "1, 2, 3", "[1, 2, 16777217]", '[1, 2, "3"]', "[1, 2, 1e39]"]
    texts = [*bad, "[1, 2, 3]"]
    frame = pl.DataFrame({"user_id": range(1, 8), "age": 30, "face": texts})
    ingest(FACES, frame, tmp_path, offline, online.of(FACES.schema), "faces.csv")
    reasons = offline.postgres.query("SELECT reason FROM quarantine ORDER BY row_number")
    numbers = [f"face[2] is '{n}', expected" for n in ("None", "16777217", "3", "1e+39")]
    assert [reason.partition(" a ")[0] for reason in reasons["reason"]] == [
        "face is",
        numbers[0],
        "face is '1, 2, 3', expected",
        *numbers[1:],
    ]
    lists = pl.DataFrame({"user_id": [8, 9], "age": 30, "face": [[1.0, float("nan"), 2], [1.0]]})
    ingest(FACES, lists, tmp_path, offline, online.of(FACES.schema), "more.parquet")
    found = offline.postgres.query("SELECT reason FROM quarantine ORDER BY row_number")["reason"]
    assert {"face[1] is 'nan', expected a number that a float32 holds"} <= set(found)
    assert {"face is a list of 1, expected a list of 3 numbers, or null"} <= set(found)


def test_one_row_and_a_table_have_the_same_bits():
    engine = Engine(FACES)
    one = engine.row({"age": 3, "face": FACE})
    assert one.tobytes() == engine.rows([{"age": 3, "face": FACE}])[0].tobytes()
    columns = {"age": np.float32([3])} | {
        f"face_{place}": np.float32([number]) for place, number in enumerate(FACE)
    }
    assert one.tobytes() == engine.table(columns)[0].tobytes()
    changed = engine.override(one, {"face": [1, 2, 3]})
    assert engine.schema.decode(changed) == {"age": 3, "face": [1, 2, 3], "first_two": 3}
    assert changed.tobytes() == engine.overrides(one[np.newaxis], [{"face": (1, 2, 3)}]).tobytes()
    assert engine.schema.decode(engine.override(one, {"face": None}))["face"] is None
    with pytest.raises(UnknownFeature, match=r"'faces' is not a raw column.*Known: age, face\."):
        engine.row({"faces": FACE})


def test_a_selection_shows_an_array_only_where_it_is_whole():
    schema = FACES.schema
    assert schema.columns == ("age", "face", "first_two")
    assert schema.select(["face"]).names == ("face_0", "face_1", "face_2")
    part = schema.select(["face_2", "age"])
    assert part.decode(np.float32([1, 2])) == {"face_2": 1, "age": 2}
    with pytest.raises(UnknownFeature, match="Known: age, face, first_two"):
        schema.require("face_0")
    again = FeatureSchema.from_meaning("faces", json.loads(json.dumps(schema.meaning)))
    assert (again.fingerprint, again.columns) == (schema.fingerprint, schema.columns)


def test_what_cannot_be_defined_is_refused():
    view = face_view()
    with pytest.raises(DefinitionError, match=r"takes 'face', an array: .*face_0, …, face_2"):

        @view.feature()
        def whole(face):
            "All of it."
            return face

    with pytest.raises(DefinitionError, match="has the size 0; expected how many numbers"):
        view.array("none", 0, description="None.")
    with pytest.raises(DefinitionError, match="'face' is defined twice"):
        view.raw("face", description="Again.")
    with pytest.raises(DefinitionError, match="has more than 1,500 columns with 'long_149"):
        view.array("long", 1_536, description="Long.")

    view = visit_view()
    with pytest.raises(DefinitionError, match="takes 'came', a timestamp, beside other columns"):

        @view.feature()
        def mixed(age, came):
            "Both."
            return age

    @view.feature()
    def days(came):
        "Days."
        return came.astype(np.int64) / 86_400e6

    with pytest.raises(DefinitionError, match="'days' returned float64 of shape"):
        Engine(view)


def test_functions_of_timestamps_are_computed_from_files_and_kept_in_both_stores(
    offline, online, tmp_path
):
    online, schema = online.of(VISITS.schema), VISITS.schema
    frame = pl.DataFrame(
        {
            "user_id": [1, 2, 3],
            "age": [30, 30, None],
            "came": ["2026-01-05T10:00:00Z", "?", "2026-01-05T23:30:00-05:00"],
            "went": ["2026-01-05T13:30:00Z", "2026-01-05T13:30:00Z", "2026-01-06T05:30:00Z"],
        }
    )
    ingest(VISITS, frame, tmp_path, offline, online, "visits.csv")
    read = {user: online.read(user) for user in (1, 2, 3)}
    found = {user: schema.decode(row.vector, row.exact) for user, row in read.items()}
    assert [found[user]["stayed_h"] for user in (1, 2, 3)] == [3.5, None, 1]
    assert [found[user]["time_of_day"] for user in (1, 2, 3)] == ["day", None, "night"]
    assert found[1]["stayed_by_age"] == np.float32(3.5) / np.float32(30)
    assert found[3]["came"] == datetime(2026, 1, 6, 4, 30, tzinfo=UTC)
    matrix, _ = offline.historical(
        schema, "user_id", np.arange(1, 4), np.full(3, np.datetime64("2026-02-02", "us"))
    )
    assert matrix.values.tobytes() == np.stack([row.vector for row in read.values()]).tobytes()
    assert schema.features[schema.position("stayed_h")].protected


def test_an_event_that_changes_one_timestamp_computes_from_it_and_the_stored_other(
    offline, online, tmp_path
):
    online = online.of(VISITS.schema)
    times = {"came": ["2026-01-05T10:00:00Z"], "went": ["2026-01-05T13:30:00Z"]}
    frame = pl.DataFrame({"user_id": [1], "age": [30], **times})
    ingest(VISITS, frame, tmp_path, offline, online, "visits.csv")
    change = {"came": "2026-01-05T03:00:00Z"}
    writer = ProfileWriter(Engine(VISITS), offline, online)
    writer.apply([ProfileChange("c-1", 1, NOW - timedelta(days=1), change)], NOW)
    row = online.read(1)
    found = VISITS.schema.decode(row.vector, row.exact)
    assert (found["stayed_h"], found["time_of_day"], found["age"]) == (10.5, "night", 30)
    assert found["came"] == datetime(2026, 1, 5, 3, tzinfo=UTC)


def test_a_request_computes_them_and_keeps_what_it_does_not_give():
    engine, schema = Engine(VISITS), VISITS.schema
    times = {"came": "2026-01-05T10:00:00Z", "went": "2026-01-05T13:30:00Z"}
    one = engine.row({"age": 30, **times})
    assert schema.decode(one)["stayed_h"] == 3.5
    older = engine.override(one, {"age": 60})
    half = float(np.float32(3.5) / np.float32(60))
    assert schema.decode(older) == {**schema.decode(one), "age": 60, "stayed_by_age": half}
    assert older.tobytes() == engine.overrides(one[np.newaxis], [{"age": 60}])[0].tobytes()
    later = engine.override(one, {"came": "2026-01-05T03:00", "went": times["went"]})
    decoded = schema.decode(later)
    assert (decoded["stayed_h"], decoded["time_of_day"]) == (10.5, "night")
    again = engine.rows([{"age": 30, **times}, {}])
    assert again[0].tobytes() == one.tobytes()
    table = {name: np.array([time[:-1]], "M8[us]") for name, time in times.items()}
    table["age"] = np.float32([30])
    assert engine.table(table)[0].tobytes() == one.tobytes()
    with pytest.raises(UnknownFeature, match="'stayed_h' is computed from came and went"):
        engine.row({"stayed_h": 3})
    with pytest.raises(InvalidValue, match="went is absent, expected came and went together"):
        engine.override(one, {"came": times["came"]})


def test_an_event_changes_a_whole_list(offline, online, tmp_path):
    online = online.of(FACES.schema)
    frame = pl.DataFrame({"user_id": [1], "age": [30], "face": [FACE]})
    ingest(FACES, frame, tmp_path, offline, online, "faces.parquet")
    fields = {
        **{"kind": "profile", "event_id": "e1", "user_id": "1"},
        **{"event_timestamp": "2026-02-10T00:00:00Z", "attributes": '{"face": [1, 2, 3]}'},
    }
    encoded = {name.encode(): value.encode() for name, value in fields.items()}
    change = EventParser(FACES).parse(encoded)
    assert isinstance(change, ProfileChange)
    ProfileWriter(Engine(FACES), offline, online).apply([change], NOW)
    decoded = FACES.schema.decode(online.read(1).vector)
    assert decoded == {"age": 30, "face": [1, 2, 3], "first_two": 3}
    encoded[b"attributes"] = b'{"face": [1, 2]}'
    with pytest.raises(InvalidEvent, match="face is a list of 2, expected a list of 3 numbers"):
        EventParser(FACES).parse(encoded)


def test_a_list_is_the_same_out_of_any_column(offline):
    kinds = ("real[]", "float8[]", "numeric[]", "text", "jsonb")
    texts = ["{0.1,2,-3}"] * 3 + ["[0.1, 2, -3]"] * 2
    shown = ", ".join(
        f"'{t}'::{k} AS c{n}" for n, (k, t) in enumerate(zip(kinds, texts, strict=True))
    )
    [frame] = offline.postgres.stream(f"SELECT {shown}")
    columns = [frame[name] for name in frame.columns]
    columns.append(pl.Series([[0.1, 2, -3]], dtype=pl.Array(pl.Float64, 3)))
    columns.append(pl.Series([[0.1, 2, -3]], dtype=pl.List(pl.Float32)))
    columns.append(pl.Series([[0, 2, -3]], dtype=pl.List(pl.Int64)))
    found = []
    for column in columns:
        reasons: dict[int, str] = {}
        found.append(parse_array(FACES.arrays["face"], column, reasons)[0].tolist())
        assert not reasons, column
    tenth = np.float32(0.1).item()
    assert found == [*[[tenth, 2, -3]] * 7, [0, 2, -3]]
    reasons = {}
    dates = pl.Series([[NOW] * 3])
    assert np.isnan(parse_array(FACES.arrays["face"], dates, reasons)).all()
    assert "expected a number that a float32 holds" in reasons[0]
