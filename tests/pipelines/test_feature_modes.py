"""The feature pipeline's modes: all rows, increments, backfills; and bad input."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs import command_line
from configs.settings import ROOT, Settings
from feature_store.command_line.checks import check_view
from feature_store.connect import offline_store, online_store
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.ingest.watermarks import Watermark
from infrastructure.embedded import redis_url
from pipelines import feature_pipeline
from tests.worlds.sources import NOON, CsvWorld, SqlWorld, person

MEANING = {
    "key_column": "user_id",
    "event_time_column": "updated_at",
    "label_column": "income",
    "label_values": {"<=50K": 0, ">50K": 1},
}


class Stage:
    """Stores of its own, settings that name a source, and the pipeline's command line."""

    def __init__(
        self, settings: Settings, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.settings, self.folder, self.capsys = settings, folder, capsys
        self.offline, self.online = offline_store(settings), online_store(settings)

    def configure(self, source: dict[str, Any], **changes: Any) -> None:
        config = yaml.safe_load((ROOT / "configs" / "feature_config.yaml").read_text())
        config |= {"source": source | MEANING, **changes}
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config))

    def run(self, *arguments: str) -> str:
        """What a run prints that must end well."""
        code, out, err = self.ended(*arguments)
        assert (code, err) == (0, "")
        return out

    def refused(self, *arguments: str) -> str:
        """The one line of a run that must end with an error."""
        code, _, err = self.ended(*arguments)
        assert code == 1
        assert err.count("\n") == 1
        return err

    def ended(self, *arguments: str) -> tuple[int, str, str]:
        config = str(self.folder / "config.yaml")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["feature_pipeline", "--config", config, *arguments])
            patch.setenv("DATABASE_URL", str(self.settings.database_url))
            patch.setenv("REDIS_URL", str(self.settings.redis_url))
            with pytest.raises(SystemExit) as ended:
                command_line.run(feature_pipeline.app)
        shown = self.capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    def ages(self) -> list[tuple[int, int]]:
        """(user, age) of all stored rows in the order in which they were learned."""
        query = "SELECT user_id, age FROM user_features ORDER BY created_timestamp, user_id"
        return self.offline.postgres.query(query).rows()

    def online_age(self, key: int) -> object:
        return self.online.schema.decode(self.online.read(key).vector)["age"]

    def watermark(self) -> Any:
        schema = MODEL_VIEW.schema
        return Watermark(self.offline.postgres, schema, "files").position()

    def count(self, table: str) -> int:
        return int(self.offline.postgres.query(f"SELECT count(*) FROM {table}").item())


@pytest.fixture
def stage(
    settings: Settings, database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Stage]:
    redis = redis_url(settings).removesuffix("/0") + "/8"
    own = settings.model_copy(update={"database_url": database_url, "redis_url": redis})
    made = Stage(own, tmp_path, capsys)
    made.online.client.flushdb()
    made.configure({"files": [{"path": str(tmp_path / "people.csv")}]})
    yield made
    made.online.client.flushdb()


@pytest.fixture
def people(stage: Stage) -> CsvWorld:
    world = CsvWorld(stage.folder)
    world.add(*(person(key, minutes=key) for key in range(1, 6)))
    return world


def test_an_increment_stores_what_is_new_and_says_so(stage: Stage, people: CsvWorld) -> None:
    assert "5 rows are new or changed" in stage.run("--mode", "incremental")
    people.add(person(6, minutes=60), person(2, minutes=-60, age=20), person(3, minutes=3, age=41))
    out = stage.run("--mode", "incremental")
    assert "Loaded 3 rows" in out
    assert "3 rows are new or changed, 0 were stored already" in out
    assert "watermark: 1 files, 5 rows → 1 files, 8 rows" in out
    assert "newest event 2026-01-05 13:00:00 UTC, " in out
    assert stage.ages()[5:] == [(2, 20), (3, 41), (6, 39)]
    # The late row does not win online, the correction does.
    assert [stage.online_age(key) for key in (2, 3, 6)] == [39, 41, 39]
    assert check_view("user_features", None, stage.settings).first == {}


def test_an_empty_increment_says_so_and_ends_well(stage: Stage, people: CsvWorld) -> None:
    stage.run()
    out = stage.run("--mode", "incremental")
    assert "Nothing is new since the watermark: 1 files, 5 rows" in out


def test_a_whole_run_and_increments_lead_to_the_same_rows(stage: Stage, people: CsvWorld) -> None:
    stage.run("--mode", "incremental")
    people.add(person(1, minutes=1, age=50), person(7, minutes=7))
    stage.run("--mode", "incremental")
    before = stage.ages()
    assert "0 rows are new or changed, 6 were stored already" in stage.run("--mode", "batch")
    assert stage.ages() == before


def test_of_two_rows_for_one_event_in_a_run_the_later_one_counts_whatever_the_batches(
    stage: Stage, people: CsvWorld
) -> None:
    (stage.folder / "more.csv").write_text(people.path.read_text().replace(",39,", ",44,"))
    paths = [{"path": str(stage.folder / name)} for name in ("people.csv", "more.csv")]
    stage.configure({"files": paths})
    for expected in ("5 rows are new or changed", "0 rows are new or changed"):
        assert expected in stage.run()
    assert stage.ages() == [(key, 44) for key in range(1, 6)]
    assert stage.count("labels") == 5


def test_a_backfill_computes_its_half_open_range_and_leaves_the_watermark(
    stage: Stage, people: CsvWorld
) -> None:
    stage.run("--mode", "incremental")
    before = stage.watermark()
    changed = people.path.read_text().replace(",39,", ",45,")
    people.path.write_text(changed)
    noon = "2026-01-05T12"
    out = stage.run("--mode", "backfill", "--start", f"{noon}:02", "--end", f"{noon}:04")
    assert "2 rows are new or changed" in out
    assert stage.ages()[5:] == [(2, 45), (3, 45)]
    assert stage.watermark() == before
    assert [stage.online_age(key) for key in (1, 2, 3, 4)] == [39, 45, 45, 39]
    nothing = stage.run("--mode", "backfill", "--start", "2020-01-01", "--end", "2020-01-02")
    assert "No row has its event from 2020-01-01 00:00:00 to 2020-01-02 00:00:00" in nothing


@pytest.mark.parametrize(
    "arguments",
    [
        ("--mode", "batch"),
        ("--mode", "incremental"),
        ("--mode", "backfill", "--start", "2026-01-01", "--end", "2099-01-01"),
    ],
    ids=["batch", "incremental", "backfill"],
)
def test_a_row_dated_in_the_future_freezes_nobody_and_is_quarantined(
    stage: Stage, people: CsvWorld, arguments: tuple[str, ...]
) -> None:
    files = {"files": [{"path": str(stage.folder / "people.csv")}]}
    stage.configure(files, max_bad_share=0.5)
    typo = person(1, age=88) | {"updated_at": datetime(2098, 1, 1, tzinfo=UTC)}
    people.add(typo, person(1, minutes=30, age=41))
    printed = stage.run(*arguments)
    assert "1 rows are quarantined; the first is people.csv" in printed
    history = stage.offline.latest(
        MODEL_VIEW.schema, MODEL_VIEW.entity, NOON, datetime(2099, 1, 1, tzinfo=UTC)
    )
    assert stage.online_age(1) == history.values[0, 0] == 41
    query = "SELECT reason FROM quarantine"
    assert stage.offline.postgres.query(query).item() == (
        "updated_at is 2098-01-01T00:00:00.000000Z, expected at most 5 minutes after now"
    )


def test_a_row_that_is_announced_is_held_back_as_far_ahead_as_the_settings_allow(
    stage: Stage, people: CsvWorld
) -> None:
    files = {"files": [{"path": str(stage.folder / "people.csv")}]}
    stage.configure(files, max_ahead_minutes=60)
    stage.run("--mode", "incremental")
    soon = datetime.now(UTC) + timedelta(seconds=3)
    people.add(person(1, age=55) | {"updated_at": soon})
    printed = stage.run("--mode", "incremental")
    assert "1 rows are held back: their time has not come" in printed
    assert (stage.online_age(1) != 55, stage.count("quarantine")) == (True, 0)
    time.sleep(max(0.0, (soon - datetime.now(UTC)).total_seconds()) + 0.1)
    printed = stage.run("--mode", "incremental")
    assert "held back" not in printed
    assert stage.online_age(1) == 55
    assert "Nothing is new" in stage.run("--mode", "incremental")


def test_few_bad_rows_do_not_stop_an_increment_but_many_do_and_the_watermark_stays(
    stage: Stage, people: CsvWorld
) -> None:
    stage.run()
    people.add(person(6, age=-1), person(7, minutes=7))
    assert "1 rows are quarantined; the first is people.csv line 7" in stage.run(
        "--mode", "incremental"
    )
    before = stage.watermark()
    people.add(*(person(key, age=-1) for key in range(10, 25)))
    assert "15 of 15 rows are bad (100.0%)" in stage.refused("--mode", "incremental")
    assert stage.watermark() == before
    assert stage.count("quarantine") == 1


def test_a_source_that_ends_early_leaves_rows_and_watermark_as_they_were(
    stage: Stage, people: CsvWorld
) -> None:
    stage.configure({"files": [{"path": str(stage.folder / "people.csv*")}]})
    stage.run()
    before = stage.ages(), stage.watermark()
    people.damage()
    assert "is truncated or damaged" in stage.refused("--mode", "incremental")
    people.remove()
    (stage.folder / "people.csv.gz").unlink()
    assert "No file matches" in stage.refused("--mode", "incremental")
    assert (stage.ages(), stage.watermark()) == before


def test_rows_of_a_database_are_followed_by_their_cursor(stage: Stage) -> None:
    world = SqlWorld(stage.offline.postgres)
    world.add(*(person(key, minutes=key) for key in range(1, 4)))
    sql = {"type": "sql", "table": "people", "cursor_column": "updated_at", "lookback": 90}
    stage.configure(sql | {"name": "crm"})
    assert "watermark: nothing read yet → updated_at 2026-01-05T12:03:00+00:00" in stage.run(
        "--mode", "incremental"
    )
    world.add(person(4, minutes=2), person(5, minutes=0), person(6, minutes=9))
    out = stage.run("--mode", "incremental")
    assert "Loaded 4 rows" in out  # 2 and 3 stood within the lookback; 5 came too late for it
    assert "2 rows are new or changed, 2 were stored already" in out
    assert sorted(key for key, _ in stage.ages()) == [1, 2, 3, 4, 6]
    assert "1 rows are new or changed" in stage.run("--mode", "batch")


def test_a_new_definition_is_filled_from_the_beginning(stage: Stage, people: CsvWorld) -> None:
    stage.run()
    older = Watermark(stage.offline.postgres, MODEL_VIEW.schema.select(["age"]), "files")
    assert older.position() == stage.watermark()
    with stage.offline.postgres.transaction() as connection:
        connection.execute("UPDATE watermarks SET fingerprint = 'of another definition'")
    assert "Loaded 5 rows" in stage.run("--mode", "incremental")


def test_of_two_runs_at_once_the_first_to_end_moves_the_watermark(stage: Stage) -> None:
    watermark = Watermark(stage.offline.postgres, MODEL_VIEW.schema, "files")
    assert watermark.advance(None, {"files": []})
    assert not watermark.advance(None, {"column": "x", "value": 1})
    assert watermark.position() == {"files": []}
    assert watermark.advance({"files": []}, {"column": "x", "value": 2})
    assert watermark.position() == {"column": "x", "value": 2}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--mode", "sometimes"], "Mode 'sometimes' is not known. Known: batch, incremental"),
        (["--start", "2020-01-01"], "--start and --end are for --mode backfill, not batch"),
        (["--mode", "backfill"], "--mode backfill needs --start and --end"),
        (
            ["--mode", "backfill", "--start", "2020-01-02", "--end", "2020-01-01"],
            "--start 2020-01-02 00:00:00 must be before --end 2020-01-01 00:00:00",
        ),
        (["--from", "kafka://b/t"], "--from is for --mode stream, not batch"),
        (["--mode", "stream", "--from", "kafka://b"], "feature.stream.origin"),
        (["--mode", "backfill", "--start", "soon", "--end", "2020-01-01"], "'soon' is not a date"),
    ],
)
def test_bad_input_is_one_line(stage: Stage, arguments: list[str], expected: str) -> None:
    assert expected in stage.refused(*arguments)


def test_an_unreachable_database_or_api_is_one_line(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRM_URL", "postgresql://reader:hunter2@127.0.0.1:1/crm")
    stage.configure({"type": "sql", "table": "people", "url_env": "CRM_URL"})
    line = stage.refused()
    assert "The source 'people' cannot be read: PostgreSQL refused or went away" in line
    assert "hunter2" not in line
    monkeypatch.delenv("CRM_URL")
    assert "The variable CRM_URL is not set" in stage.refused()
    api = {"type": "http", "url": "http://127.0.0.1:1/people?key=hunter2", "columns": ["age"]}
    stage.configure(api | {"max_tries": 1})
    line = stage.refused("--mode", "incremental")
    assert "http://127.0.0.1:1/people failed 1 times" in line
    assert "hunter2" not in line


def test_an_empty_source_is_an_error_of_a_whole_run(stage: Stage) -> None:
    (stage.folder / "people.csv").write_text("user_id,updated_at\n")
    assert "The source has no rows" in stage.refused()
