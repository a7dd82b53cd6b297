"""One checklist for every kind of source."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from configs.command_line import Stopwatch
from configs.feature_config import EventTimeConfig, FeatureConfig
from configs.sources import FileSourceConfig, SourceFile
from feature_store.errors import SourceError
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.ingest.compute import compute
from feature_store.ingest.run_stats import RunStats
from feature_store.ingest.staging import Staging, Stored
from feature_store.offline.postgres import Postgres
from feature_store.offline_store import OfflineStore
from feature_store.sources.port import Batch, Position, Reading, position_text
from tests.worlds.sources import (
    LOOKBACK_S,
    NOON,
    SECRET,
    ApiWorld,
    CsvWorld,
    ParquetWorld,
    ReferenceWorld,
    S3World,
    SqlWorld,
    World,
    person,
)

CONFIG = FeatureConfig(
    event_time=EventTimeConfig(
        start=datetime(2020, 1, 1, tzinfo=UTC), end=datetime(2024, 1, 1, tzinfo=UTC)
    ),
    source=FileSourceConfig(
        files=(SourceFile(path="none"),),
        key_column="user_id",
        event_time_column="updated_at",
        label_column="income",
        label_values={"<=50K": 0, ">50K": 1},
    ),
)


@pytest.fixture(params=["csv", "parquet", "s3", "sql", "http", "reference"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Three people, updated at noon and ten and twenty minutes later."""
    made: World
    if request.param == "sql":
        made = SqlWorld(request.getfixturevalue("postgres"))
    elif request.param == "s3":
        made = S3World(request.getfixturevalue("s3"), f"people-{uuid.uuid4().hex[:8]}")
    elif request.param == "http":
        made = ApiWorld()
    else:
        kinds = {"csv": CsvWorld, "parquet": ParquetWorld, "reference": ReferenceWorld}
        made = kinds[request.param](tmp_path)
    made.add(person(1), person(2, minutes=10), person(3, minutes=20))
    yield made
    if isinstance(made, ApiWorld):
        made.close()


def read(world: World, after: Position | None = None) -> tuple[list[Batch], Position]:
    """Read to the end; the position goes through JSON as it does in the database."""
    reading = world.source().read(after)
    batches = list(reading)
    return batches, json.loads(json.dumps(reading.position))


def stored(offline: OfflineStore, reading: Reading, minutes: float = 60) -> tuple[RunStats, Stored]:
    """Compute and store as the pipeline does, so many minutes after noon."""
    with offline.postgres.transaction() as connection:
        staging = Staging(connection, MODEL_VIEW.schema, MODEL_VIEW.entity)
        now = NOON + timedelta(minutes=minutes)
        stats = compute(reading, staging, MODEL_VIEW, CONFIG, None, Stopwatch(), now)
        return stats, staging.store()


def keys(batches: list[Batch]) -> list[int]:
    return [int(key) for batch in batches for key in batch.columns["user_id"]]


def test_everything_is_read_with_where_it_came_from(world: World) -> None:
    batches, position = read(world)
    assert sorted(keys(batches)) == [1, 2, 3]
    for batch in batches:
        assert batch.source
        assert (batch.row_numbers > 0).all()
        assert len(batch) == len(batch.columns) == len(batch.ordinals)
        assert set(batch.columns.columns) >= {"user_id", "updated_at", "age", "income"}
    assert position_text(position) != position_text(None)


def test_an_increment_gives_what_is_new_and_nothing_from_long_before(world: World) -> None:
    _, position = read(world)
    world.add(person(4, minutes=40), person(5, minutes=41))
    batches, later = read(world, position)
    assert set(keys(batches)) >= {4, 5}
    assert not set(keys(batches)) & {1, 2}
    assert later != position
    again, latest = read(world, later)
    assert latest == later
    assert not set(keys(again)) & {1, 2, 3}


def test_a_late_row_within_the_lookback_is_picked_up(world: World) -> None:
    _, position = read(world)
    world.add(person(6, minutes=20 - LOOKBACK_S / 60 + 0.5))
    batches, later = read(world, position)
    assert 6 in keys(batches)
    assert not set(keys(batches)) & {1, 2}
    if world.tells_late_rows_by_cursor:
        assert later == position


def test_a_missing_or_unreachable_source_is_one_line_without_a_secret(world: World) -> None:
    world.remove()
    with pytest.raises(SourceError) as caught:
        read(world)
    assert len(str(caught.value).splitlines()) == 1
    assert SECRET not in str(caught.value)


def test_a_source_that_dies_midway_leaves_nothing_behind(
    world: World, offline: OfflineStore
) -> None:
    world.damage()
    before = tables(offline.postgres)
    with pytest.raises(SourceError) as caught:
        stored(offline, world.source().read())
    assert len(str(caught.value).splitlines()) == 1
    assert SECRET not in str(caught.value)
    assert tables(offline.postgres) == before
    for table in ("labels", "quarantine"):
        assert offline.postgres.query(f"SELECT * FROM {table}").is_empty()


@pytest.mark.parametrize("written", ["infinity", "-infinity", "20260-01-05", "4000-01-05 BC"])
def test_a_time_that_no_calendar_has_is_quarantined(
    postgres: Postgres, offline: OfflineStore, written: str
) -> None:
    world = SqlWorld(postgres)
    world.add(person(1), person(2), person(3), person(4))
    with postgres.transaction() as connection:
        change = "UPDATE people SET updated_at = %s WHERE user_id = 4"
        connection.execute(change, (written,))
    reading = world.source().read()
    [_, _, reason, _] = quarantined(offline, reading)
    assert reason == "updated_at lies outside the years 1 to 9999"
    assert reading.position["value"] == NOON.isoformat()


def test_a_time_of_a_parquet_file_that_no_calendar_has_is_quarantined(
    tmp_path: Path, offline: OfflineStore
) -> None:
    rows = pl.DataFrame([person(1), person(2), person(3), person(4)])
    typo = pl.Series([0, 0, 0, 253_402_300_800 * 10**6]).cast(pl.Datetime("us", "UTC"))
    rows = rows.with_columns(updated_at=typo)
    rows.write_parquet(tmp_path / "people.parquet")
    [_, _, reason, _] = quarantined(offline, ParquetWorld(tmp_path).source().read())
    assert reason == "updated_at lies outside the years 1 to 9999"


def test_a_query_with_two_columns_of_one_name_is_refused_in_one_line(postgres: Postgres) -> None:
    world = SqlWorld(postgres)
    world.add(person(1))
    world.query = "SELECT *, age FROM people"
    with pytest.raises(SourceError, match="gives two columns one name") as caught:
        read(world)
    assert len(str(caught.value).splitlines()) == 1


def test_a_row_of_the_far_future_is_quarantined_and_hides_no_true_one(
    world: World, offline: OfflineStore
) -> None:
    world.add(person(3, minutes=60 + 5.5, age=88))
    [_, _, reason, _] = quarantined(offline, world.source().read())
    assert re.fullmatch(
        r"updated_at is 2026-01-05T13:05:30.*Z, expected at most 5 minutes after now", reason
    )


def test_a_row_a_little_ahead_is_held_back_and_comes_again_until_its_time_has_passed(
    world: World, offline: OfflineStore
) -> None:
    offline.versions.register(MODEL_VIEW.schema, MODEL_VIEW.entity)
    world.add(person(4, minutes=33))
    position, outcomes = None, []
    for now in (30, 32, 33, 33.1, 33.2):
        if now == 32:
            world.add(person(5, minutes=39))  # moves a cursor beyond the one that waits
        reading = world.source().read(position)
        stats, kept = stored(offline, reading, minutes=now)
        position = json.loads(json.dumps(reading.position))
        outcomes.append((stats.held_back, stats.bad, 4 in kept.keys.tolist(), kept.added))
    assert outcomes[0] == (1, 0, False, 3)
    assert outcomes[1] == (1, 1, False, 0)
    assert outcomes[2][0::2] == (1, False)
    assert outcomes[3][0::2] == (0, True)
    assert outcomes[3][3] == 1
    assert outcomes[4][0] == 0
    if isinstance(world, CsvWorld | ParquetWorld | ReferenceWorld | S3World):
        assert outcomes[4] == (0, 0, False, 0)  # and is not looked into again
    assert offline.postgres.query("SELECT count(*) FROM quarantine").item() == 1


def tables(postgres: Postgres) -> set[str]:
    frame = postgres.query(
        "SELECT table_name::text FROM information_schema.tables "
        "WHERE table_schema = current_schema()"
    )
    return set(frame["table_name"])


def test_where_reading_ended_is_unknown_until_it_has(world: World) -> None:
    reading = world.source().read()
    next(iter(reading))
    with pytest.raises(SourceError, match="known only after the last batch"):
        _ = reading.position


def test_a_bad_row_is_quarantined_with_where_it_came_from(
    world: World, offline: OfflineStore
) -> None:
    world.add(person(4, minutes=30, age=-3))
    [source, number, reason, raw] = quarantined(offline, world.source().read())
    [place] = [
        (batch.source, int(batch.row_numbers[row]))
        for batch in read(world)[0]
        for row, key in enumerate(batch.columns["user_id"].to_list())
        if int(key) == 4
    ]
    assert (source, number) == place
    assert reason == "age is -3, expected 0 to 120 years"
    assert int(json.loads(raw)["user_id"]) == 4


def quarantined(offline: OfflineStore, reading: Reading) -> tuple[str, int, str, str]:
    """The only row that the quarantine holds after a run."""
    offline.versions.register(MODEL_VIEW.schema, MODEL_VIEW.entity)
    stats, kept = stored(offline, reading)
    assert (stats.rows, stats.bad, kept.added, kept.keys.tolist()) == (4, 1, 3, [1, 2, 3])
    [row] = offline.postgres.query(
        "SELECT source, row_number, reason, raw::text FROM quarantine"
    ).rows()
    return row
