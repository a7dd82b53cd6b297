"""The feature pipeline dies at any message to a store, or PostgreSQL restarts under it.

A run over the wires of `tests.faults.wire` is killed with SIGKILL at a message; afterwards a second
run must lead to the very state that an undisturbed one leads to. Readers must never see another
row than one of before or one of after.
"""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.settings import ROOT, Settings, load_settings
from feature_store.command_line.checks import check_view
from feature_store.connect import offline_store, online_store
from feature_store.errors import EntityNotFound, SchemaMismatch
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.online_store import OnlineStore
from infrastructure import embedded
from infrastructure.servers import services
from pipelines.feature_modes import Mode
from pipelines.feature_pipeline import feature_pipeline
from tests.faults.wire import PARTS, Tripwire, Wire
from tests.worlds.databases import renew_database
from tests.worlds.sources import COLUMNS, person

PEOPLE = 1_200
NEW, CHANGED, MOVED = range(1_201, 1_251), range(100, 700), range(700, 1_100)
WRITTEN = 1_767_614_400
"""When the files were written: the watermark has it."""
FEW = 5
"""Messages at which runs are killed in the quick test; the full one takes every one of them."""
PLACES = 20
"""Parts of the full test: each takes every twentieth message."""


@dataclass
class World:
    """Stores of their own, a folder with the source, and what the stores hold in the end."""

    settings: Settings
    config: Path
    redis_number: int
    expected: dict[str, Any] = field(default_factory=dict)

    def reset(self) -> None:
        """Empty both stores and fill them with the first file, as of before the increment."""
        name = str(self.settings.database_url).rpartition("/")[2]
        renew_database(self.settings.model_copy(update={"database_url": None}), name)
        online_store(self.settings).client.flushdb()
        (self.folder / "2.csv").unlink(missing_ok=True)

    @property
    def folder(self) -> Path:
        return self.config.parent


def world_of(settings: Settings, folder: Path, redis_number: int) -> World:
    """A world on the servers of some settings."""
    own = settings.model_copy(
        update={
            "database_url": renew_database(settings, f"killed_{uuid.uuid4().hex[:8]}"),
            "redis_url": embedded.redis_url(settings).removesuffix("/0") + f"/{redis_number}",
        }
    )
    config = yaml.safe_load((ROOT / "configs" / "feature_config.yaml").read_text())
    config["source"] = {
        "files": [{"path": str(folder / "*.csv")}],
        "key_column": "user_id",
        "event_time_column": "updated_at",
        "label_column": "income",
        "label_values": {"<=50K": 0, ">50K": 1},
    }
    config["online"]["write_batch_rows"] = 100
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    _write(folder / "1.csv", [person(key, minutes=key) for key in range(1, PEOPLE + 1)])
    return World(own, folder / "config.yaml", redis_number)


def add_increment(world: World) -> None:
    """New people, corrected rows, newer rows, an older row that comes late, and a bad one."""
    rows = [person(key, minutes=key) for key in NEW]
    rows += [person(key, minutes=key, age=40) for key in CHANGED]
    rows += [person(key, minutes=key + 9_000, hours_per_week=10) for key in MOVED]
    rows += [person(5, minutes=-9_000, age=20), person(6, age=-1)]
    _write(world.folder / "2.csv", rows)


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows([{**row, "updated_at": row["updated_at"].isoformat()} for row in rows])
    os.utime(path, (WRITTEN,) * 2)


def run_here(world: World, mode: Mode) -> None:
    """Run the pipeline undisturbed in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", str(world.settings.database_url))
        patch.setenv("REDIS_URL", str(world.settings.redis_url))
        feature_pipeline(world.config, mode, None, None)


def run_over(
    world: World, mode: Mode, tripwire: Tripwire, *, is_database_only: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run it as a process whose every message, to PostgreSQL or to both, goes over the tripwire."""
    database = Wire(str(world.settings.database_url), tripwire)
    redis = Wire(str(world.settings.redis_url), Tripwire() if is_database_only else tripwire)
    command = [sys.executable, "pipelines/feature_pipeline.py", "--config", str(world.config)]
    process = subprocess.Popen(
        [*command, "--mode", mode],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            **{"DATABASE_URL": database.url, "REDIS_URL": redis.url, "NO_COLOR": "1"},
        },
    )
    if tripwire.action is KILL:
        tripwire.action = lambda: os.kill(process.pid, signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    database.close()
    redis.close()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def KILL() -> None:  # noqa: N802  stands for what is made when the process is known
    """Kill the process at the tripwire."""


def state_of(world: World) -> dict[str, Any]:
    """All that the stores hold but the times at which they learned it."""
    offline, online = offline_store(world.settings), online_store(world.settings)
    table = offline.versions.find(MODEL_VIEW.name, MODEL_VIEW.schema.fingerprint).table
    queries = {
        "rows": f"SELECT user_id, event_timestamp, row_digest::text FROM {table} ORDER BY 1, 2, 3",
        "labels": "SELECT user_id, label_time, label FROM labels ORDER BY 1, 2, 3",
        "quarantine": "SELECT source, row_number, reason, raw::text FROM quarantine ORDER BY 1, 2",
        # Each time a file is written it has another time of change, which nobody can set.
        "watermark": "SELECT view, fingerprint, source, regexp_replace(position::text, "
        """'"changed_ns": [0-9-]+', '', 'g') FROM watermarks""",
        "versions": "SELECT fingerprint, switched_at IS NOT NULL FROM feature_views",
    }
    state: dict[str, Any] = {
        name: offline.postgres.query(query).rows() for name, query in queries.items()
    }
    keys = list(range(1, PEOPLE + 100))
    found = online.read_many(keys)
    state["online"] = {
        key: (row.event_time_us, row.vector.tobytes())
        for key, row in zip(keys, found, strict=True)
        if row is not None
    }
    return state


class Reader:
    """Reads online all the time; every row must be whole and of one of the two states."""

    def __init__(self, world: World, *allowed: dict[str, Any]) -> None:
        self.store: OnlineStore = online_store(world.settings)
        self.allowed = [state["online"] for state in allowed]
        self.wrong: list[int] = []
        self.reads = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        assert self.wrong == []
        assert self.reads > 0

    def _read(self) -> None:
        keys = list(range(1, NEW.stop))
        while not self._ended.is_set():
            try:
                rows = self.store.read_many(keys)
            except (SchemaMismatch, EntityNotFound):
                self.reads += 1
                continue
            self.reads += 1
            for key, row in zip(keys, rows, strict=True):
                found = None if row is None else (row.event_time_us, row.vector.tobytes())
                if found not in [state.get(key) for state in self.allowed]:
                    self.wrong.append(key)
            time.sleep(0.02)


@pytest.fixture(scope="module")
def world(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = world_of(settings, tmp_path_factory.mktemp("people"), redis_number=6)
    yield made
    made.reset()


@pytest.fixture(scope="module")
def first(world: World) -> dict[str, Any]:
    """The state after the first run, and how many messages it takes to lead there."""
    return undisturbed(world, Mode.batch)


@pytest.fixture(scope="module")
def second(world: World, first: dict[str, Any]) -> dict[str, Any]:
    """The state after the increment."""
    return undisturbed(world, Mode.incremental)


def prepare(world: World, mode: Mode) -> None:
    """Bring the stores to where a run of the mode begins."""
    world.reset()
    if mode is Mode.incremental:
        run_here(world, Mode.batch)
        add_increment(world)


def undisturbed(world: World, mode: Mode, *, is_database_only: bool = False) -> dict[str, Any]:
    """The state after a run, and how many messages it takes to lead there."""
    prepare(world, mode)
    wire = Tripwire()
    ended = run_over(world, mode, wire, is_database_only=is_database_only)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert_consistent(world)
    return {**state_of(world), "messages": wire.count}


def assert_consistent(world: World) -> None:
    """Online is offline's newest, times included."""
    assert check_view(MODEL_VIEW.name, None, world.settings).first == {}


def killed_and_run_again(
    world: World, mode: Mode, at: int, part: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """Kill a run at a message, then run again; readers must never see anything else."""
    prepare(world, mode)
    wire = Tripwire(at, part, KILL)
    with Reader(world, before, after):
        ended = run_over(world, mode, wire)
        # Messages may arrive in one piece or in two: near the end there may be one less.
        is_killed = wire.tripped.wait(0 if ended.returncode == 0 else 30)
        assert ended.returncode == (-signal.SIGKILL if is_killed else 0), ended
        run_here(world, mode)
    state = state_of(world)
    assert {name for name in state if state[name] != after[name]} == set()
    assert_consistent(world)


NOTHING: dict[str, Any] = {"online": {}}


@pytest.mark.parametrize("place", range(FEW))
@pytest.mark.parametrize("mode", [Mode.batch, Mode.incremental])
def test_a_run_killed_at_a_message_converges(
    world: World, first: dict[str, Any], second: dict[str, Any], mode: Mode, place: int
) -> None:
    before, after = (NOTHING, first) if mode is Mode.batch else (first, second)
    messages = after["messages"]
    part = list(PARTS)[place % len(PARTS)]
    # The last messages are goodbyes; the first ones ask where the watermark is.
    at = messages * (2 * place + 3) // (2 * FEW + 4)
    killed_and_run_again(world, mode, at, part, before, after)


@pytest.mark.full
@pytest.mark.parametrize("place", range(PLACES))
@pytest.mark.parametrize("mode", [Mode.batch, Mode.incremental])
def test_a_run_killed_at_any_message_converges(
    world: World, first: dict[str, Any], second: dict[str, Any], mode: Mode, place: int
) -> None:
    before, after = (NOTHING, first) if mode is Mode.batch else (first, second)
    for at in range(place + 1, after["messages"], PLACES):
        part = list(PARTS)[at % len(PARTS)]
        killed_and_run_again(world, mode, at, part, before, after)


@pytest.fixture(scope="module")
def own_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world whose PostgreSQL nobody else uses."""
    settings = load_settings(var_dir=tmp_path_factory.mktemp("restarted") / "var")
    yield world_of(settings, tmp_path_factory.mktemp("people"), redis_number=0)
    embedded.delete(settings)


def restart(settings: Settings) -> None:
    services.stop("postgres", settings)
    embedded.postgres_url(settings.model_copy(update={"database_url": None}))


@pytest.mark.parametrize("place", range(FEW))
def test_a_run_under_which_postgresql_restarts_ends_in_one_line_and_can_be_run_again(
    own_world: World, place: int
) -> None:
    if not own_world.expected:
        own_world.expected["before"] = undisturbed(own_world, Mode.batch)
        own_world.expected["after"] = undisturbed(
            own_world, Mode.incremental, is_database_only=True
        )
    before, after = own_world.expected["before"], own_world.expected["after"]
    prepare(own_world, Mode.incremental)
    at = after["messages"] * (2 * place + 3) // (2 * FEW + 4)
    wire = Tripwire(at, "half of it", lambda: restart(own_world.settings))
    with Reader(own_world, before, after):
        ended = run_over(own_world, Mode.incremental, wire, is_database_only=True)
        assert wire.tripped.wait(30)
        watermark = state_of(own_world)["watermark"]
        if ended.returncode != 0:
            assert ended.stderr.startswith("✗ PostgreSQL refused or went away: ")
            assert ended.stderr.count("\n") == 1
            assert watermark == before["watermark"]
        run_here(own_world, Mode.incremental)
    state = state_of(own_world)
    assert {name for name in state if state[name] != after[name]} == set()
    assert_consistent(own_world)
