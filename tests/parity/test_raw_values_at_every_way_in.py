"""The rows of the raw file as they stand in it mean the same, whatever way they come in."""

from __future__ import annotations

import csv
import gzip
import json
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from feast.protos.feast.types.Value_pb2 import Value

from configs.settings import ROOT, load_settings
from feature_store.definitions.horizon import Horizon
from feature_store.feast_plugin.conversion import ValueCodec
from feature_store.feast_plugin.on_demand import packing_of
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.ingest import batches
from feature_store.profiles.fold import Changes, RawRows, fold, vectors
from feature_store.sources.port import Batch
from feature_store.stream.events import EventParser
from models.base import feature_matrix
from models.registry.pyfunc_loader import encode
from pipelines.batch.features import EngineeredFeatures
from serving.bodies.request_schema import request_schema, to_request
from tests.worlds.rows import ENGINE, first_rows

N = 500
SCHEMA = request_schema(MODEL_VIEW)
NAMES = [feature.name for feature in MODEL_VIEW.raw_features]
NUMBERS = {feature.name for feature in MODEL_VIEW.raw_features if feature.kind != "category"}


def raw_rows() -> list[dict[str, str]]:
    """The first lines of the file: texts with the blank that follows each comma."""
    with gzip.open(ROOT / "data" / "raw" / "adult.data.gz", "rt") as opened:
        lines = [line for _, line in zip(range(N), csv.reader(opened), strict=False)]
    return [dict(zip(NAMES, line, strict=False)) for line in lines]


def disguised(row: dict[str, str], place: int) -> dict[str, object]:
    """A row with numbers as pandas writes them, and every third row in capitals."""
    change = str.upper if place % 3 == 0 else str
    return {name: float(text) if name in NUMBERS else change(text) for name, text in row.items()}


ROWS = [disguised(row, place) for place, row in enumerate(raw_rows())]


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    """The vectors ``(n, p)`` that the feature pipeline stores of these rows."""
    return first_rows(N).features.values


def test_the_rows_are_not_clean() -> None:
    assert sum(row["workclass"] == " ?" for row in ROWS) > 10
    assert {"workclass": " STATE-GOV", "age": 39.0}.items() <= ROWS[0].items()


def test_requests(expected: np.ndarray) -> None:
    requests = [
        to_request(SCHEMA.read_json(json.dumps(row).encode()), MODEL_VIEW.key) for row in ROWS
    ]
    attributes = [request.attributes for request in requests]
    assert np.array_equal(ENGINE.rows(attributes), expected, equal_nan=True)
    alone = np.stack([ENGINE.row(each) for each in attributes])
    assert np.array_equal(alone, expected, equal_nan=True)


def test_a_source(expected: np.ndarray) -> None:
    settings = load_settings().feature
    frame = pl.DataFrame(ROWS).with_columns(pl.lit("<=50K").alias("income"))
    places = np.arange(1, N + 1)
    horizon = Horizon(datetime.now(UTC), settings.max_ahead)
    table = batches.parse(
        Batch("here", places, places, frame),
        MODEL_VIEW,
        settings.source,
        settings.event_time,
        horizon,
    )
    assert not table.reasons
    assert np.array_equal(ENGINE.table(table.columns), expected, equal_nan=True)


def test_events(expected: np.ndarray) -> None:
    parser = EventParser(MODEL_VIEW)
    fields = {b"kind": b"profile", b"event_timestamp": b"2026-01-05T10:00:00Z"}
    changes = [
        parser.parse(
            fields
            | {
                b"event_id": f"e{place}".encode(),
                b"user_id": f"{place}.0".encode(),
                b"attributes": json.dumps(row).encode(),
            }
        )
        for place, row in enumerate(ROWS)
    ]
    times = np.full(N, np.datetime64("2026-01-05", "us"))
    nothing = RawRows(np.empty(0, np.int64), times[:0], np.empty((0, len(NAMES)), dtype=np.float32))
    state = fold(
        ENGINE,
        nothing,
        Changes(
            np.arange(N), times, [c.event_id for c in changes], [c.attributes for c in changes]
        ),
    )
    assert [change.key for change in changes] == list(range(N))
    assert np.array_equal(vectors(ENGINE, state), expected, equal_nan=True)


def test_batch_inputs(expected: np.ndarray) -> None:
    compute = EngineeredFeatures(MODEL_VIEW.schema, ENGINE)
    found = compute(np.arange(N), pa.Table.from_pylist(ROWS), "a file").values
    assert np.array_equal(found, expected, equal_nan=True)


def test_requests_of_feast(expected: np.ndarray) -> None:
    packing = packing_of(MODEL_VIEW.name)
    found = packing.answer([None] * N, [json.dumps(row) for row in ROWS])
    for place, feature in enumerate(MODEL_VIEW.schema.features):
        assert found[feature.name] == [feature.decode(value) for value in expected[:, place]]


def test_pushes_of_feast_and_frames_for_models(expected: np.ndarray) -> None:
    raw = [MODEL_VIEW.schema.position(name) for name in NAMES]
    codec = ValueCodec(MODEL_VIEW.schema)
    pushed = [
        codec.read(
            {
                name: Value(int64_val=int(value)) if name in NUMBERS else Value(string_val=value)
                for name, value in row.items()
            }
        )[0]
        for row in ROWS
    ]
    frame = pl.DataFrame(ROWS).to_pandas()
    for found in (np.stack(pushed)[:, raw], feature_matrix(frame).values):
        assert np.array_equal(found, expected[:, raw], equal_nan=True)


def test_frames_for_the_stock_client_of_mlflow(expected: np.ndarray) -> None:
    # That file travels with the model and imports nothing of ours: it has its own copy of the rule.
    frame = pl.DataFrame(ROWS).to_pandas()
    for feature in MODEL_VIEW.raw_features:
        found = encode(frame[feature.name], feature.meaning, feature.missing_marks)
        place = MODEL_VIEW.schema.position(feature.name)
        assert np.array_equal(found, expected[:, place], equal_nan=True)
    words = ["Private", " private", "Astronaut", "?", "N/A", " ", "\u3000?", "\u0130"]
    workclass = MODEL_VIEW.schema.features[MODEL_VIEW.schema.position("workclass")]
    found = encode(pl.Series(words).to_pandas(), workclass.meaning, workclass.missing_marks)
    assert found.tolist() == [workclass.encode(word) for word in words]


def test_what_nobody_defined_stays_unseen_and_what_is_ambiguous_too() -> None:
    code = MODEL_VIEW.schema.features[MODEL_VIEW.schema.position("workclass")].encode
    assert [code(word) for word in ("Astronaut", "private", "N/A", " ", "?", None)] == [
        *(1, 2, 1),
        *(0, 0, 0),
    ]
