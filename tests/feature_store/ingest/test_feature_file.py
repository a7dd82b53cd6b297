"""Features as a file, and raw rows as one: what goes out comes back to the bit."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from configs.settings import ROOT, Settings, load_settings
from feature_store import connect
from feature_store.definitions.engine import Engine, FeatureMatrix
from feature_store.definitions.horizon import Horizon
from feature_store.errors import FeatureStoreError
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.ingest import batches as ingest
from feature_store.ingest.feature_file import md5, read_rows, refill, write_rows
from feature_store.ingest.prepared_rows import prepare, reading_prepared
from feature_store.offline.postgres import Postgres
from feature_store.offline_store import OfflineStore
from feature_store.online_store import OnlineStore
from feature_store.training_data import TrainingRows, training_rows
from infrastructure import embedded

ENTITY, SCHEMA = MODEL_VIEW.entity, MODEL_VIEW.schema
START, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)


def some_rows(n: int = 50) -> TrainingRows:
    """Rows of people, some with holes and unseen words."""
    engine, random = Engine(MODEL_VIEW), np.random.default_rng(7)
    people = [
        {"age": int(age), "education": "Masters", "workclass": None if age % 3 else "Astronaut"}
        for age in random.integers(17, 90, n)
    ]
    times = np.datetime64("2021-05-01", "us") + np.arange(n) * np.timedelta64(1, "h")
    keys = np.arange(900_001, 900_001 + n, dtype=np.int64)
    matrix = FeatureMatrix(engine.rows(people), keys, times, SCHEMA)
    return TrainingRows(matrix, (np.arange(n) % 2).astype(np.int8))


def is_equal(one: TrainingRows, other: TrainingRows) -> bool:
    pairs = (
        (one.features.values, other.features.values),
        (one.features.keys, other.features.keys),
        (one.features.times, other.features.times),
        (one.labels, other.labels),
    )
    return all(a.tobytes() == b.tobytes() and a.dtype == b.dtype for a, b in pairs)


def test_rows_come_back_out_of_a_file_to_the_bit(tmp_path: Path) -> None:
    rows = some_rows()
    write_rows(tmp_path / "a.parquet", rows, ENTITY)
    write_rows(tmp_path / "b.parquet", rows, ENTITY)
    assert is_equal(read_rows(tmp_path / "a.parquet", SCHEMA, ENTITY), rows)
    assert md5(tmp_path / "a.parquet") == md5(tmp_path / "b.parquet")


def test_a_file_of_other_features_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "few.parquet"
    with pytest.raises(FeatureStoreError, match=r"There is no .*few\.parquet\. Run `dvc repro`"):
        read_rows(path, SCHEMA, ENTITY)
    write_rows(path, some_rows(), ENTITY)
    with pytest.raises(FeatureStoreError, match=f"holds features {SCHEMA.fingerprint}; this code"):
        read_rows(path, SCHEMA.select(["age"]), ENTITY)


def test_a_file_fills_empty_stores_and_adds_nothing_to_full_ones(
    settings: Settings, tmp_path: Path
) -> None:
    rows = some_rows()
    write_rows(tmp_path / "rows.parquet", rows, ENTITY)
    kept = read_rows(tmp_path / "rows.parquet", SCHEMA, ENTITY)
    offline = OfflineStore(Postgres(embedded.postgres_url(settings)))
    online = OnlineStore(connect.redis_client(settings, 5000), "refilled", SCHEMA)
    first = refill(offline, online, kept, ENTITY)
    second = refill(offline, online, kept, ENTITY)
    assert (first.added, first.known, second.added, second.known) == (50, 0, 0, 50)
    found = training_rows(offline, SCHEMA, ENTITY, START, END)
    mine = np.isin(found.features.keys, rows.features.keys)
    assert is_equal(TrainingRows(found.features.rows(mine), found.labels[mine]), rows)
    vector = online.read(900_001)
    assert np.array_equal(vector.vector, rows.features.values[0], equal_nan=True)


def test_prepared_rows_give_the_same_features_as_the_source(tmp_path: Path) -> None:
    config = load_settings().feature
    lines = (ROOT / "tests" / "feature_store" / "prepared_rows.csv").read_text()
    raw = tmp_path / "raw.csv"
    raw.write_text(lines)
    source = {**config.source.model_dump(), "files": [{"path": str(raw)}]}
    settings = load_settings(feature={"source": source})
    found = prepare(connect.raw_source(settings), MODEL_VIEW, settings.feature)
    assert (len(found.frame), found.refused) == (4, 1)
    found.frame.write_parquet(tmp_path / "prepared.parquet")
    reading = reading_prepared(settings.feature, MODEL_VIEW, str(tmp_path / "prepared.parquet"))
    again = load_settings(feature=reading.model_dump())
    before, after = (computed(each) for each in (settings, again))
    assert is_equal(before, after)
    assert found.frame["workclass"].to_list() == ["Private", None, "Astronaut", "State-gov"]
    assert found.frame["event_timestamp"].dtype == pl.Datetime("us")


def computed(settings: Settings) -> TrainingRows:
    """The features of the good rows of the configured source."""
    config = settings.feature
    (batch,) = connect.raw_source(settings).read()
    horizon = Horizon(datetime.now(UTC), config.max_ahead)
    table = ingest.parse(batch, MODEL_VIEW, config.source, config.event_time, horizon)
    matrix = ingest.engineer(table, Engine(MODEL_VIEW))
    features, labels, _ = ingest.good_rows(table, matrix, table.reasons)
    return TrainingRows(features, labels.values)
