"""From files to checked columns: hashes, bad rows, event times, quarantine."""

from __future__ import annotations

import gzip
import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from configs.feature_config import EventTimeConfig
from configs.settings import ROOT, load_settings
from configs.sources import FileSourceConfig, SourceFile
from feature_store.definitions import validation
from feature_store.definitions.engine import Engine
from feature_store.definitions.horizon import Horizon
from feature_store.errors import SourceError, ValidationFailed
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.ingest import batches as ingest
from feature_store.ingest.run_stats import RunStats
from feature_store.sources.files import FileSource
from feature_store.sources.port import Batch

GOOD = (
    "39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, "
    "Male, 2174, 0, 40, United-States, <=50K"
)
EVENT_TIME = EventTimeConfig(
    start=datetime(2020, 1, 1, tzinfo=UTC), end=datetime(2024, 1, 1, tzinfo=UTC)
)
HORIZON = Horizon(datetime(2026, 1, 5, 12, tzinfo=UTC), timedelta(minutes=5))


def source_of(folder: Path, *lines: str) -> FileSourceConfig:
    content = "".join(line + "\n" for line in lines).encode()
    (folder / "raw.csv.gz").write_bytes(gzip.compress(content))
    known = load_settings().feature.source
    assert isinstance(known, FileSourceConfig)
    file = SourceFile(path="raw.csv.gz", sha256=hashlib.sha256(content).hexdigest())
    return known.model_copy(update={"files": (file,)})


def batches(source: FileSourceConfig, folder: Path) -> list[Batch]:
    return list(FileSource(source, folder, {}).read())


def parsed(folder: Path, *lines: str) -> ingest.RawTable:
    source = source_of(folder, *lines)
    [batch] = batches(source, folder)
    return ingest.parse(batch, MODEL_VIEW, source, EVENT_TIME, HORIZON)


def test_the_original_files_hold_48842_good_rows() -> None:
    config, engine, stats = load_settings().feature, Engine(MODEL_VIEW), RunStats()
    keys, positive = [], 0
    for batch in FileSource(config.source, ROOT, {}).read():
        table = ingest.parse(batch, MODEL_VIEW, config.source, EVENT_TIME, HORIZON)
        matrix = ingest.engineer(table, engine)
        assert validation.check_features(matrix.schema, matrix.values) == ({}, {})
        stats.add(table, table.reasons, {})
        keys += table.keys.identities.tolist()
        assert table.labels is not None
        positive += int(table.labels.sum())
    assert stats.rows == 32_561 + 16_281 == 48_842
    assert (stats.bad, stats.unseen) == (0, {})
    assert keys == list(range(1, 48_843))
    assert positive == 11_687


def test_an_altered_file_is_refused_with_both_hashes(tmp_path: Path) -> None:
    source = source_of(tmp_path, GOOD)
    (tmp_path / "raw.csv.gz").write_bytes(gzip.compress(GOOD.replace("39", "38").encode()))
    with pytest.raises(SourceError, match=r"has SHA-256 [0-9a-f]{64}, expected [0-9a-f]{64}"):
        batches(source, tmp_path)


def test_a_truncated_file_is_refused_in_one_line(tmp_path: Path) -> None:
    source = source_of(tmp_path, GOOD)
    whole = (tmp_path / "raw.csv.gz").read_bytes()
    (tmp_path / "raw.csv.gz").write_bytes(whole[:-20])
    with pytest.raises(SourceError, match="truncated or damaged") as caught:
        batches(source, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_how_to_get_it_back(tmp_path: Path) -> None:
    source = source_of(tmp_path, GOOD)
    (tmp_path / "raw.csv.gz").unlink()
    with pytest.raises(SourceError, match=r"is missing\. Restore it with `git checkout"):
        batches(source, tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("39", "-3"), "age is -3, expected 0 to 120 years"),
        (("39", "39.5"), "age is 39.5, expected a whole number"),
        (("39", "old"), "age is 'old', expected a number"),
        (("39", "nan"), "age is 'nan', expected a number"),
        (("39", "inf"), "age is inf, expected 0 to 120 years"),
        ((" 40,", " 900,"), "hours_per_week is 900, expected 0 to 168 hours/week"),
        (("<=50K", "rich"), "income is 'rich', expected one of <=50K, >50K"),
        (("<=50K", "?"), "income is missing, expected one of"),
        ((", Male", ""), "the row has 14 fields, expected 15"),
    ],
)
def test_a_bad_row_is_refused_with_its_reason(
    tmp_path: Path, change: tuple[str, str], reason: str
) -> None:
    table = parsed(tmp_path, GOOD, GOOD.replace(*change, 1), GOOD)
    assert list(table.reasons) == [1]
    assert table.reasons[1].startswith(reason)


def test_refused_rows_keep_their_text_and_others_their_keys(tmp_path: Path) -> None:
    source = source_of(tmp_path, GOOD, GOOD.replace("39", "-3"), GOOD)
    table = ingest.parse(batches(source, tmp_path)[0], MODEL_VIEW, source, EVENT_TIME, HORIZON)
    matrix = ingest.engineer(table, Engine(MODEL_VIEW))
    features, labels, _ = ingest.good_rows(table, matrix, table.reasons)
    assert features.keys.tolist() == labels.keys.tolist() == [1, 3]
    [refused] = ingest.quarantined_rows(table, table.reasons)
    assert (refused.source, refused.row_number, refused.raw["age"]) == ("raw.csv.gz", 2, "-3")


def test_missing_and_unseen_values_are_not_bad(tmp_path: Path) -> None:
    line = GOOD.replace("State-gov", "?").replace("United-States", "Atlantis").replace("39", "?")
    table = parsed(tmp_path, line)
    assert table.reasons == {}
    assert table.unseen == {"native_country=Atlantis": 1}
    assert table.columns["workclass"].tolist() == [0]
    assert table.columns["native_country"].tolist() == [1]
    assert np.isnan(table.columns["age"]).all()


def test_too_many_bad_rows_stop_the_run_and_name_the_commonest_reason(tmp_path: Path) -> None:
    lines = [GOOD] * 199
    lines[3], lines[9] = GOOD.replace("39", "-3"), GOOD.replace("39", "-4")
    table = parsed(tmp_path, *lines)
    enough = RunStats()
    enough.add(table, table.reasons, {})
    with pytest.raises(ValidationFailed, match=r"2 of 199 rows are bad \(1.0%\)") as caught:
        enough.refuse_too_many(max_bad_share=0.01)
    assert "age: expected 0 to 120 years (2 rows)" in str(caught.value)
    assert "First: row 4, age is -3, expected 0 to 120 years." in str(caught.value)
    enough.add(parsed(tmp_path, GOOD), {}, {})
    enough.refuse_too_many(max_bad_share=0.01)


def test_so_few_bad_rows_as_are_tolerated_do_not_stop_an_increment(tmp_path: Path) -> None:
    table = parsed(tmp_path, GOOD, GOOD.replace("39", "-3"))
    stats = RunStats()
    stats.add(table, table.reasons, {})
    stats.refuse_too_many(max_bad_share=0.01, tolerated=1)
    with pytest.raises(ValidationFailed, match="1 of 2 rows are bad"):
        stats.refuse_too_many(max_bad_share=0.01)


def test_a_feature_out_of_its_range_is_refused() -> None:
    values = np.zeros((2, 47), dtype=np.float32)
    values[1, MODEL_VIEW.schema.position("is_overtime")] = 3
    values[1, MODEL_VIEW.schema.position("workclass")] = 99
    values[:, MODEL_VIEW.schema.position("fnlwgt")] = 5
    values[:, MODEL_VIEW.schema.position("education_num")] = 1
    reasons, failures = validation.check_features(MODEL_VIEW.schema, values)
    assert failures == {"workclass": 1, "is_overtime": 1}
    assert reasons == {1: "workclass is 99, expected a code from 0 to 9"}


def test_event_times_are_a_fixed_function_of_the_key() -> None:
    keys = np.arange(1, 48_843, dtype=np.int64)
    times = ingest.event_times(keys, EVENT_TIME)
    assert str(times[0]) == "2022-06-21T22:44:37.000000"
    assert times.min() >= np.datetime64("2020-01-01")
    assert times.max() < np.datetime64("2024-01-01")
    share_per_year = np.unique(times.astype("M8[Y]"), return_counts=True)[1] / len(keys)
    assert share_per_year == pytest.approx([0.25] * 4, abs=0.002)


def test_a_source_without_a_raw_column_is_refused(tmp_path: Path) -> None:
    source = source_of(tmp_path, GOOD)
    renamed = source.model_copy(update={"columns": ("years", *source.columns[1:])})
    with pytest.raises(SourceError, match="no column 'age'; expected the columns age, workclass"):
        ingest.parse(batches(renamed, tmp_path)[0], MODEL_VIEW, renamed, EVENT_TIME, HORIZON)


def test_columns_are_renamed_and_two_of_one_name_are_refused(tmp_path: Path) -> None:
    source = source_of(tmp_path, GOOD)
    columns = ("years", *source.columns[1:])
    renamed = source.model_copy(update={"columns": columns, "rename": {"years": "age"}})
    table = ingest.parse(batches(renamed, tmp_path)[0], MODEL_VIEW, renamed, EVENT_TIME, HORIZON)
    assert table.columns["age"].tolist() == [39]
    twice = source.model_copy(update={"rename": {"fnlwgt": "age"}})
    with pytest.raises(SourceError, match="Two columns of the source would be 'age'"):
        ingest.parse(batches(twice, tmp_path)[0], MODEL_VIEW, twice, EVENT_TIME, HORIZON)
