"""Batch inference by its command: every kind of input, the same bits, and what is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from feature_store.definitions.engine import Engine
from feature_store.definitions.schema import UNSEEN
from feature_store.feature_definitions import MODEL_VIEW
from pipelines.batch.inputs import Kind
from tests.worlds.batch import (
    NAMES,
    BatchWorld,
    manifest,
    partition,
    predictions,
)

Capsys = pytest.CaptureFixture[str]
COLUMNS = {
    *("user_id", "probability", "prediction", "model_version", "engine", "schema_fingerprint"),
    *("scored_at", "feature_event_time"),
}


def run(batch: BatchWorld, capsys: Capsys, *arguments: object) -> str:
    """What a run prints that must end well."""
    ended = batch.ended("--output", batch.output, *arguments, capsys=capsys)
    assert ended.code == 0, ended.err + ended.out
    return ended.out


def refused(batch: BatchWorld, capsys: Capsys, *arguments: object) -> str:
    """The one line of a run that must end with an error and write nothing."""
    ended = batch.ended("--output", batch.output, *arguments, capsys=capsys)
    assert (ended.code, ended.err.count("\n")) == (1, 1), ended.err
    assert not batch.output.exists()
    return ended.err


def expected(batch: BatchWorld, values: np.ndarray | None = None) -> np.ndarray:
    """What the native library answers to all rows at once."""
    return batch.scorer.predict(batch.world.matrix.values if values is None else values)


def test_without_options_all_users_are_scored(batch: BatchWorld, capsys: Capsys) -> None:
    printed = run(batch, capsys)
    frame = predictions(batch.output)
    assert "Scored 300 rows at" in printed
    assert "0.0–0.1" in printed
    assert frame["user_id"].to_list() == list(range(1, 301))
    assert np.array_equal(frame["probability"].to_numpy(), expected(batch))
    assert set(frame.columns) == COLUMNS
    texts = np.where(expected(batch).astype(float) >= 0.5, ">50K", "<=50K")
    assert frame["prediction"].to_list() == texts.tolist()
    assert frame["model_version"].unique().to_list() == ["income-xgb-v1"]
    assert frame["engine"].unique().to_list() == ["xgboost"]
    assert frame["schema_fingerprint"].unique().to_list() == [MODEL_VIEW.schema.fingerprint]
    assert frame["feature_event_time"].null_count() == 0
    assert frame["scored_at"].n_unique() == 1
    assert partition(batch.output).name == f"date={datetime.now(UTC):%Y-%m-%d}"


def test_files_of_ids_are_joined_as_of_a_time(batch: BatchWorld, capsys: Capsys) -> None:
    batch.ids("one.csv", [300, 7, 100])
    pl.DataFrame({"user_id": [50, 9_999]}).write_parquet(batch.folder / "two.parquet")
    wanted = ["--input", batch.folder / "*.csv", "--input", batch.folder / "two.parquet"]
    printed = run(batch, capsys, *wanted, "--as-of", "2026-01-01T01:40:00")
    frame = predictions(batch.output)
    assert "Found 5 rows: entity ids in 2 chunks" in printed
    assert "3 had no stored features" in printed  # 100 has its event at that very minute
    assert partition(batch.output).name == "date=2026-01-01"
    assert frame["user_id"].to_list() == [7, 50, 100, 300, 9_999]
    known = frame.filter(pl.col("feature_event_time").is_not_null())
    assert known["user_id"].to_list() == [7, 50]
    assert np.array_equal(known["probability"].to_numpy(), expected(batch)[[6, 49]])
    assert manifest(batch.output)["rows_without_features"] == 3


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
def test_raw_attributes_are_engineered(batch: BatchWorld, capsys: Capsys, suffix: str) -> None:
    frame = batch.attributes(40).rename({"hours_per_week": "hours-per-week"})
    path = batch.folder / f"people.{suffix}"
    if suffix == "parquet":
        frame.write_parquet(path)
    else:
        frame.fill_null("?").cast(pl.String).write_csv(
            path, compression="gzip" if suffix.endswith("gz") else "uncompressed"
        )
    assert Kind.attributes in run(batch, capsys, "--input", path)
    rows = [dict(row) for row in batch.attributes(40).drop("user_id").to_dicts()]
    values = Engine(MODEL_VIEW).rows(rows)
    found = predictions(batch.output)["probability"].to_numpy()
    assert np.array_equal(found, expected(batch, values))


def test_features_come_as_codes_or_as_words(batch: BatchWorld, capsys: Capsys) -> None:
    codes = batch.features("codes.parquet", 300)
    run(batch, capsys, "--input", codes)
    as_codes = predictions(batch.output)
    words = pl.DataFrame(
        [MODEL_VIEW.schema.decode(row) for row in batch.world.matrix.values],
        infer_schema_length=None,
    )
    words.insert_column(0, pl.Series("user_id", range(1, 301))).write_parquet(
        batch.folder / "words.parquet"
    )
    run(batch, capsys, "--input", batch.folder / "words.parquet")
    as_words = predictions(batch.output)
    assert np.array_equal(as_codes["probability"].to_numpy(), expected(batch))
    values = batch.world.matrix.values.copy()
    categories = [f.kind == "category" for f in MODEL_VIEW.schema.features]
    # A word that nobody knows has no name: it is written as missing.
    values[:, categories] = np.where(values[:, categories] == UNSEEN, 0, values[:, categories])
    assert np.array_equal(as_words["probability"].to_numpy(), expected(batch, values))


def test_chunks_cut_row_groups_and_files_and_give_the_same_bits(
    batch: BatchWorld, capsys: Capsys
) -> None:
    batch.features("a.parquet", 1_000, row_group_size=300)
    batch.features("b.parquet", 501, first=5_000)
    printed = run(
        batch, capsys, "--input", batch.folder / "?.parquet", "--chunk-rows", 128, "--workers", 3
    )
    frame = predictions(batch.output)
    assert "1,501 rows: features in 12 chunks" in printed
    values = np.resize(batch.world.matrix.values, (1_000, len(NAMES)))
    both = np.concatenate([values, values[:501]])
    assert np.array_equal(frame["probability"].to_numpy(), expected(batch, both))
    assert frame["user_id"].to_list() == [*range(1, 1_001), *range(5_000, 5_501)]
    assert manifest(batch.output)["rows"] == 1_501


def test_a_later_run_of_a_day_replaces_the_output_whole(batch: BatchWorld, capsys: Capsys) -> None:
    run(batch, capsys)
    run(batch, capsys, "--limit", 10)
    assert len(predictions(batch.output)) == 10
    assert manifest(batch.output)["rows"] == 10


def test_a_dry_run_writes_nothing(batch: BatchWorld, capsys: Capsys) -> None:
    printed = run(batch, capsys, "--dry-run")
    assert "Found 300 rows" in printed
    assert not batch.output.exists()


def test_the_largest_contributions_are_written(batch: BatchWorld, capsys: Capsys) -> None:
    run(batch, capsys, "--explain", 3, "--limit", 20)
    frame = predictions(batch.output)
    exact = batch.scorer.contributions(batch.world.matrix.values[:20])
    for row, told in zip(exact, frame["contributions"].to_list(), strict=True):
        largest = np.argsort(-np.abs(row), kind="stable")[:3]
        assert [each["feature"] for each in told] == [NAMES[place] for place in largest]
        assert [each["contribution"] for each in told] == pytest.approx(row[largest], rel=1e-6)


def test_logged_predictions_are_receipts_once(batch: BatchWorld, capsys: Capsys) -> None:
    before = len(batch.world.stored_predictions())
    printed = run(batch, capsys, "--log", "--limit", 50, "--chunk-rows", 20)
    assert "50 predictions are in the prediction log" in printed
    stored = batch.world.stored_predictions()[before:]
    frame = predictions(batch.output)
    by_user = sorted(stored, key=lambda row: row["user_id"])
    assert [row["user_id"] for row in by_user] == list(range(1, 51))
    assert [row["probability"] for row in by_user] == frame["probability"].to_list()
    assert {(row["arm"], row["model_version"]) for row in stored} == {("batch", "income-xgb-v1")}
    assert {row["predicted_at"] for row in stored} == set(frame["scored_at"].to_list())
    assert [row["feature_event_time"] for row in by_user] == frame["feature_event_time"].to_list()
    vectors = np.array([row["features"] for row in by_user], dtype=np.float32)
    assert np.array_equal(vectors, batch.world.matrix.values[:50], equal_nan=True)
    assert json.loads(json.dumps(stored[0]["scored"]))[0]["probability"] == stored[0]["probability"]


def bad(folder: Path, rows: dict[str, list[object]], name: str = "bad.parquet") -> Path:
    path = folder / name
    pl.DataFrame(rows, strict=False).write_parquet(path)
    return path


def test_input_that_cannot_be_used_is_refused_in_one_line(
    batch: BatchWorld, capsys: Capsys
) -> None:
    folder = batch.folder
    frame = batch.attributes(5)
    frame.drop("age", "education", "education_num").write_parquet(folder / "lacks.parquet")
    frame.with_columns(age=pl.lit("old")).write_parquet(folder / "words.parquet")
    frame.with_columns(age=pl.lit(900)).write_parquet(folder / "range.parquet")
    frame.clear().write_parquet(folder / "empty.parquet")
    (folder / "empty.csv").write_text("")
    (folder / "ragged.csv").write_text("user_id,age\n1,2\n3\n")
    (folder / "ids.csv").write_text("user_id\n1\nx7\n")
    (folder / "torn.parquet").write_bytes(batch.features("whole.parquet", 50).read_bytes()[:-90])
    (folder / "notes.txt").write_text("user_id\n1\n")
    whole = pl.read_parquet(folder / "whole.parquet")
    whole.with_columns(age=pl.lit("x")).write_parquet(folder / "typed.parquet")
    twice = bad(folder, {"user_id": [5, 3, 5]}, "twice.parquet")
    cases = {
        bad(folder, {"age": [1]}, "nobody.parquet"): "has no column 'user_id'; it has age",
        folder / "lacks.parquet": "lacks the columns age, education or education_num",
        folder / "words.parquet": "age is 'old', expected a number",
        folder / "range.parquet": "age is 900, expected 0 to 120 years",
        folder / "empty.parquet": "The input has no rows",
        folder / "empty.csv": "cannot be read",
        folder / "ragged.csv": "Expected 2 columns, got 1",
        folder / "ids.csv": "no whole number",
        folder / "torn.parquet": "cannot be read",
        folder / "notes.txt": "is of no known kind",
        folder / "typed.parquet": "Column 'age' of",
        folder / "nowhere.parquet": "No file is at",
        twice: "user_id 5 comes more than once",
        bad(folder, {"user_id": [1, None]}, "null.parquet"): "Row 2 of",
        bad(folder, {"user_id": [1.5]}, "float.parquet"): "is double; expected whole numbers",
    }
    for path, message in cases.items():
        assert message in refused(batch, capsys, "--input", path), path
    assert "Traceback" not in refused(batch, capsys, "--input", folder / "torn.parquet")


def test_spark_without_its_java_says_what_to_install(batch: BatchWorld, capsys: Capsys) -> None:
    batch.extra["JAVA_HOME"] = "/nowhere"
    told = refused(batch, capsys, "--engine", "spark")
    if find_spec("pyspark"):
        assert "needs Java 17 or newer; JAVA_HOME is /nowhere, where there is none" in told
    else:
        assert "needs PySpark: uv pip install -r requirements-spark.txt" in told
