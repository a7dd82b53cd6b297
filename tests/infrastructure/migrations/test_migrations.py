"""Tables brought forward: from nothing, from the version before, with all their rows."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest

from configs.settings import ROOT, Settings
from infrastructure.embedded import admin_url, as_owner, postgres_url
from infrastructure.errors import ServiceError
from infrastructure.migrations import migrate
from infrastructure.migrations.grants import OWNER
from infrastructure.operations.backup import backup, restore
from infrastructure.operations.partitions import maintain
from monitoring.log.shipper import PredictionShipper
from tests.worlds.databases import database_of

NOW = datetime(2026, 11, 26, tzinfo=UTC)
RECEIPT = """
INSERT INTO predictions SELECT gen_random_uuid(), %s, 7, 'u', 'champion', 'income-xgb-v1', 0.5, 1,
    '[]', NULL, 1, 1, 'onnx', '{}', NULL, 'abc', '{1,2}'
"""
SHAPE = """
SELECT 'column', table_name, column_name, data_type, is_nullable, coalesce(column_default, '')
FROM information_schema.columns WHERE table_schema = current_schema()
UNION ALL
SELECT 'index', tablename, indexname, replace(indexdef, current_schema() || '.', ''), '', ''
FROM pg_indexes WHERE schemaname = current_schema()
ORDER BY 1, 2, 3
"""


@pytest.fixture
def new_database(settings: Settings) -> Iterator[object]:
    """Makes databases that are dropped at the end."""
    admin, owner, made = admin_url(settings), postgres_url(as_owner(settings)), []

    def make() -> str:
        name = f"test{uuid.uuid4().hex[:12]}"
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} OWNER {OWNER}")
        made.append(name)
        return database_of(owner, name)

    yield make
    with psycopg.connect(admin, autocommit=True) as connection:
        for name in made:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def rows(url: str, query: str, *values: object) -> list[tuple]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query, values)
        return cursor.fetchall() if cursor.description else []


def test_a_new_database_gets_all_tables_once(new_database) -> None:
    url = new_database()
    assert migrate(url) == (None, "0009")
    made = rows(url, SHAPE)
    assert {"labels", "predictions", "feast_registry"} <= {row[1] for row in made}
    assert migrate(url) == ("0009", "0009")
    assert rows(url, SHAPE) == made


def test_a_table_of_a_view_from_before_profile_changes_gets_their_mark(new_database) -> None:
    url = new_database()
    migrate(url, "0003")
    rows(url, "CREATE TABLE income_0815 AS SELECT 1 AS user_id")
    for table in ("income_0815", "user_events", "dropped_meanwhile"):
        rows(url, "INSERT INTO feature_views VALUES (%s, '', '', %s, '[]')", table, table)
    migrate(url)
    assert rows(url, "SELECT * FROM income_0815") == [(1, False)]
    assert "from_changes" not in {row[2] for row in rows(url, SHAPE) if row[1] == "user_events"}


def test_the_version_before_comes_forward_with_its_receipts(new_database) -> None:
    url = new_database()
    assert migrate(url, "0001") == (None, "0001")
    times = [datetime(2026, month, 3, tzinfo=UTC) for month in (1, 1, 2, 11)]
    for time in times:
        rows(url, RECEIPT, time)
    before = rows(url, "SELECT * FROM predictions ORDER BY prediction_id")
    assert migrate(url) == ("0001", "0009")
    after = rows(url, "SELECT * FROM predictions ORDER BY prediction_id")
    assert after == [(*row, None) for row in before]  # nobody noted the caller then
    assert rows(url, "SELECT count(*) FROM predictions_2026_01") == [(2,)]
    assert rows(url, "SELECT count(*) FROM predictions_default") == [(0,)]


def test_months_are_made_ahead_filled_and_dropped(new_database) -> None:
    url = new_database()
    migrate(url)
    for year, month in ((2024, 9), (2024, 10), (2026, 11), (2027, 6)):
        rows(url, RECEIPT, datetime(year, month, 15, tzinfo=UTC))
    assert rows(url, "SELECT count(*) FROM predictions_default") == [(4,)]
    with psycopg.connect(url, autocommit=True) as connection:
        changes = maintain(connection, NOW, keep_months=25)
        assert changes.made == (
            *("predictions_2024_10", "predictions_2026_11", "predictions_2026_12"),
            *("predictions_2027_01", "predictions_2027_06"),
        )
        assert maintain(connection, NOW, keep_months=25).made == ()
        assert rows(url, "SELECT count(*) FROM predictions") == [(3,)]
        assert rows(url, "SELECT count(*) FROM predictions_default") == [(0,)]
        later = datetime(2026, 12, 1, tzinfo=UTC)
        assert maintain(connection, later, keep_months=25).dropped == ("predictions_2024_10",)
    assert rows(url, "SELECT count(*) FROM predictions") == [(2,)]


def test_a_table_without_partitions_is_told_to_be_migrated(new_database) -> None:
    url = new_database()
    migrate(url, "0002")
    with (
        psycopg.connect(url, autocommit=True) as connection,
        pytest.raises(ServiceError, match="python -m infrastructure migrate"),
    ):
        maintain(connection, NOW, keep_months=25)


def test_a_shipper_finds_the_tables_of_a_migrated_database(new_database, tmp_path) -> None:
    url = new_database()
    migrate(url)
    shipper = PredictionShipper(tmp_path, lambda: psycopg.connect(url))
    assert shipper.run_once() == 0
    shipper.close()


@pytest.mark.parametrize("revision", [None, "0002", "head"])
def test_a_backup_is_restored_with_every_row_and_file(new_database, tmp_path, revision) -> None:
    source, target = new_database(), new_database()
    migrate(source)
    if revision:
        migrate(target, revision)
    for month in range(1, 12):
        rows(source, RECEIPT, datetime(2026, month, 3, tzinfo=UTC))
    artifacts = tmp_path / "mlflow"
    (artifacts / "1").mkdir(parents=True)
    (artifacts / "1" / "model.onnx").write_bytes(b"model")
    folder = backup(source, artifacts, tmp_path / "backup", NOW)
    with pytest.raises(ServiceError, match="there already"):
        backup(source, artifacts, folder, NOW)
    with pytest.raises(ServiceError, match="2 tables with rows already; nothing is over"):
        restore(folder, source, tmp_path / "elsewhere")

    restore(folder, target, tmp_path / "restored")
    query = "SELECT * FROM predictions ORDER BY prediction_id"
    assert rows(target, query) == rows(source, query)
    assert rows(target, SHAPE) == rows(source, SHAPE)
    assert migrate(target) == ("0009", "0009")
    assert (tmp_path / "restored" / "1" / "model.onnx").read_bytes() == b"model"


def test_an_altered_backup_is_refused(new_database, tmp_path) -> None:
    url = new_database()
    folder = backup(url, tmp_path / "nothing", tmp_path / "backup", NOW)
    (folder / "database.dump").write_bytes(b"altered")
    with pytest.raises(ServiceError, match="altered since the backup"):
        restore(folder, new_database(), tmp_path / "restored")


def test_the_commands_say_what_they_did(new_database) -> None:
    url = new_database()

    def say(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "infrastructure", *words],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": url},
            capture_output=True,
            text=True,
            check=False,
        )

    assert say("migrate").stdout == "✓ Tables: none → 0009\n"
    assert say("migrate").stdout == "✓ The tables are at revision 0009 already\n"
    assert say("partitions").stdout.startswith("✓ 3 months made, 0 dropped\n")
    wrong = say("migrate", "--to", "0815")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("✗ The tables cannot be brought forward: ")
