"""The story of the feature pipeline: one command, real files in, both real stores filled."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks.harness.stage import real_rows
from configs.settings import ROOT, Settings, load_settings
from feature_store.connect import offline_store, online_store
from feature_store.feature_definitions import MODEL_VIEW
from infrastructure.embedded import redis_url
from tests.worlds.databases import own_database
from tests.worlds.strategies import bits


@pytest.fixture(scope="module")
def stores(settings: Settings) -> Iterator[Settings]:
    """Settings that name a database and a Redis database of this story's own."""
    redis = redis_url(settings).rstrip("/") + "/7"
    with own_database(settings) as url:
        yield settings.model_copy(update={"database_url": url, "redis_url": redis})


def pipeline(stores: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "pipelines/feature_pipeline.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "DATABASE_URL": str(stores.database_url),
            "REDIS_URL": str(stores.redis_url),
            "NO_COLOR": "1",
        },
    )


def config_of(folder: Path, lines: list[str], **changes: object) -> Path:
    content = "".join(line + "\n" for line in lines).encode()
    (folder / "raw.csv.gz").write_bytes(gzip.compress(content))
    config = yaml.safe_load((ROOT / "configs" / "feature_config.yaml").read_text())
    digest = hashlib.sha256(content).hexdigest()
    config["source"]["files"] = [{"path": str(folder / "raw.csv.gz"), "sha256": digest}]
    (folder / "config.yaml").write_text(yaml.safe_dump(config | changes))
    return folder / "config.yaml"


def raw_lines(n: int) -> list[str]:
    return gzip.open(ROOT / "data/raw/adult.data.gz", "rt").read().splitlines()[:n]


def test_one_command_fills_both_stores_and_a_second_run_adds_nothing(stores: Settings) -> None:
    ended = pipeline(stores, "--config", "configs/feature_config.yaml", "--mode", "batch")
    assert (ended.returncode, ended.stderr) == (0, "")
    steps = re.findall(r"^✓ (.*) \(\d+\.\d s\)$", ended.stdout, re.MULTILINE)
    assert steps == [
        "Loaded 48,842 rows",
        "Engineered 47 features",
        "Validated 47/47 features",
        "Written to offline store (PostgreSQL)",
        "Synced to online store (Redis)",
    ]
    assert "48,842 rows are new or changed, 0 were stored already" in ended.stdout

    again = pipeline(stores)
    assert "0 rows are new or changed, 48,842 were stored already" in again.stdout

    expected, _ = real_rows(load_settings())
    offline, found = offline_store(stores).historical(
        MODEL_VIEW.schema, MODEL_VIEW.entity, expected.keys, expected.times
    )
    assert found.all()
    assert np.array_equal(bits(offline.values), bits(expected.values))
    online = online_store(stores)
    assert online.count() == 48_842
    rows = online.read_many(expected.keys.tolist())
    assert np.array_equal(
        bits(np.array([row.vector for row in rows if row])), bits(expected.values)
    )


def test_the_first_row_reads_as_in_the_file(stores: Settings) -> None:
    frame = offline_store(stores).postgres.query(
        "SELECT age, workclass, education, capital_gain, native_country "
        "FROM user_features WHERE user_id = 1"
    )
    assert frame.row(0) == (39, "State-gov", "Bachelors", 2174, "United-States")


def test_bad_rows_are_quarantined_with_their_reason(stores: Settings, tmp_path: Path) -> None:
    lines = raw_lines(300)
    lines[10] = lines[10].replace("Male", "Male, extra")
    lines[20] = "-5" + lines[20][2:]
    ended = pipeline(stores, "--config", str(config_of(tmp_path, lines)))
    assert ended.returncode == 0
    assert "2 rows are quarantined; the first is raw.csv.gz line 11" in ended.stdout
    frame = offline_store(stores).postgres.query(
        "SELECT row_number, reason FROM quarantine WHERE source = 'raw.csv.gz' ORDER BY 1"
    )
    assert frame.rows() == [
        (11, "the row has 16 fields, expected 15"),
        (21, "age is -5, expected 0 to 120 years"),
    ]


def test_too_many_bad_rows_stop_the_run_before_anything_is_written(
    stores: Settings, tmp_path: Path
) -> None:
    lines = ["-5" + line[2:] for line in raw_lines(100)]
    count = "SELECT count(*) FROM user_features UNION ALL SELECT count(*) FROM quarantine"
    before = offline_store(stores).postgres.query(count).rows()
    ended = pipeline(stores, "--config", str(config_of(tmp_path, lines)))
    assert ended.returncode == 1
    assert ended.stderr.startswith("✗ 100 of 100 rows are bad (100.0%), at most 1.0% are allowed")
    assert "Traceback" not in ended.stderr
    assert offline_store(stores).postgres.query(count).rows() == before


def test_an_unknown_setting_is_one_line(stores: Settings, tmp_path: Path) -> None:
    config = config_of(tmp_path, raw_lines(1), max_bad_shar=0.5)
    ended = pipeline(stores, "--config", str(config))
    assert ended.returncode == 1
    assert ended.stderr == (
        "✗ Setting 'feature.max_bad_shar' is not known (value: 0.5). "
        "Did you mean 'feature.max_bad_share'?\n"
    )


def test_a_database_that_is_gone_is_one_line(stores: Settings) -> None:
    gone = stores.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:1/none"})
    ended = pipeline(gone)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "PostgreSQL refused or went away" in ended.stderr


def test_people_get_features_by_name(stores: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from feature_store import get_online_features, get_training_data

    monkeypatch.setenv("DATABASE_URL", str(stores.database_url))
    monkeypatch.setenv("REDIS_URL", str(stores.redis_url))
    assert get_online_features(1, ["age", "user_features:workclass"]) == {
        "age": 39,
        "workclass": "State-gov",
    }
    features, labels = get_training_data(
        ["user_features:age", "user_features:education"], "income", "2020-01-01", "2020-02-01"
    )
    assert list(features.columns) == ["age", "education"]
    assert features.index.equals(labels.index)
    assert 0.2 < labels.mean() < 0.28
    assert 700 < len(labels) < 1400
