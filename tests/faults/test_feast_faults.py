"""Feast's client over servers that stop, die or fill up: one clear error, and then as before."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from feast import FeatureStore

from feature_store import connect
from feature_store.definitions.engine import FeatureMatrix, created_times
from feature_store.errors import StoreUnavailable
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.online_store import OnlineStore
from tests.faults.servers import Servers, leave_room_for
from tests.worlds.feast import OBJECTS, REPO
from tests.worlds.rows import MONDAY

START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
AGE = ["user_features:age"]
FEAST = Path(sys.executable).with_name("feast")


@dataclass
class World:
    """20,000 users in an offline store of this module, none online, and Feast over both."""

    servers: Servers
    matrix: FeatureMatrix
    online: OnlineStore

    def feast(self) -> FeatureStore:
        """A client that connects anew."""
        return FeatureStore(repo_path=str(REPO))

    def is_converged(self) -> bool:
        """Whether every row is there, byte for byte."""
        created = created_times(MONDAY, len(self.matrix))
        given = self.matrix
        rows = self.online.codec.encode(given.values, given.keys, given.times, created)
        found: list[bytes | None] = []
        for start in range(0, len(rows), 1000):
            part = given.keys[start : start + 1000].tolist()
            found += self.online.client.mget([self.online.key(entity) for entity in part])
        return found == rows


@pytest.fixture(scope="module")
def world(servers: Servers, matrix: FeatureMatrix) -> Iterator[World]:
    """A filled offline store, and an applied repository with write deadlines of half a second."""
    settings = servers.settings
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", settings.database_url or "")
        patch.setenv("REDIS_URL", settings.redis_url or "")
        patch.setenv("FTI_FEATURE__ONLINE__WRITE_DEADLINE_MS", "500")
        patch.setenv("FTI_FEATURE__ONLINE__WRITE_BATCH_ROWS", "5")  # there is time to interrupt it
        connect.offline_store(settings).append(matrix, MODEL_VIEW.entity, MONDAY)
        objects = runpy.run_path(str(REPO / "features.py"))
        made = World(servers, matrix, connect.online_store(settings, 2000))
        made.feast().apply([objects[name] for name in OBJECTS])
        yield made


@pytest.fixture(autouse=True)
def _running_and_empty(world: World) -> Iterator[None]:
    world.servers.start()
    world.online.client.config_set("maxmemory", 0)
    world.online.client.flushdb()
    yield
    world.servers.start()


@contextmanager
def once_online(world: World, act: Callable[[], object]) -> Iterator[None]:
    """Do something as soon as the first row is online, beside what the block does."""

    def watch() -> None:
        until = time.monotonic() + 30
        while world.online.client.dbsize() < 10 and time.monotonic() < until:
            time.sleep(0.0005)
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    yield
    thread.join()


def test_materialize_into_a_server_that_stops_fails_in_time_and_can_be_repeated(
    world: World,
) -> None:
    feast, stopped = world.feast(), []

    def stop() -> None:
        world.servers.signal("valkey", signal.SIGSTOP)
        stopped.append(time.monotonic())

    with once_online(world, stop), pytest.raises(StoreUnavailable, match="did not write: Timeout"):
        feast.materialize(START, END)
    assert time.monotonic() - stopped[0] < 2.5
    world.servers.signal("valkey", signal.SIGCONT)
    assert feast.get_online_features(AGE, [{"user_id": 1}]).to_dict()["user_id"] == [1]
    feast.materialize(START, END)
    assert world.is_converged()


def test_materialize_into_a_server_that_is_killed_can_be_repeated(world: World) -> None:
    feast = world.feast()
    with (
        once_online(world, lambda: world.servers.kill("valkey")),
        pytest.raises(StoreUnavailable, match="Redis did not write: "),
    ):
        feast.materialize(START, END)
    world.servers.start()
    assert world.online.count() < len(world.matrix)
    feast.materialize(START, END)
    assert world.is_converged()


def test_materialize_into_a_full_server_says_what_to_do_and_goes_on_when_it_is_larger(
    world: World,
) -> None:
    feast, client = world.feast(), world.online.client
    leave_room_for(client, 1_500_000)
    with pytest.raises(StoreUnavailable, match=r"it is full .* Raise its `maxmemory`"):
        feast.materialize(START, END)
    assert 0 < world.online.count() < len(world.matrix)
    client.config_set("maxmemory", 0)
    feast.materialize(START, END)
    assert world.is_converged()


@pytest.mark.full
def test_the_command_ends_with_one_line_that_says_what_is_wrong(world: World) -> None:
    client = world.online.client
    leave_room_for(client, 1_500_000)
    command = [str(FEAST), "materialize", START.isoformat(), END.isoformat()]
    done = subprocess.run(
        command, cwd=REPO, env=os.environ, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("feature_store.errors.StoreUnavailable: Redis did not write: it is full")
    client.config_set("maxmemory", 0)
    assert subprocess.run(command, cwd=REPO, capture_output=True, check=False).returncode == 0
    assert world.is_converged()


def asked(world: World, times: int = 1) -> pd.DataFrame:
    keys = np.tile(world.matrix.keys, times)
    return pd.DataFrame({"user_id": keys, "event_timestamp": END})


def test_history_is_read_as_soon_as_postgresql_is_back(world: World) -> None:
    feast = world.feast()
    job = feast.get_historical_features(asked(world), AGE)
    world.servers.kill("postgres")
    with pytest.raises(StoreUnavailable, match=r"PostgreSQL refused or went away: .*make status"):
        job.to_df()
    with pytest.raises(StoreUnavailable, match="PostgreSQL refused or went away"):
        feast.get_historical_features(asked(world), AGE).to_df()
    world.servers.start()
    ages = job.to_df()["age"]
    expected = pd.Series(world.matrix.values[:, 0]).astype("Int64")
    pd.testing.assert_series_equal(ages, expected, check_names=False)


def test_online_reads_go_on_while_postgresql_is_away(world: World) -> None:
    feast = world.feast()
    feast.materialize(START, END)
    rows = [{"user_id": 3}]
    before = feast.get_online_features(AGE, rows).to_dict()
    world.servers.kill("postgres")
    feast.registry.cached_registry_proto_created = datetime(2020, 1, 1, tzinfo=UTC)
    assert feast.get_online_features(AGE, rows).to_dict() == before


@pytest.mark.parametrize("end", [Servers.kill, Servers.stop])
def test_work_that_loses_postgresql_fails_clearly_and_then_goes_on(
    world: World, end: Callable[[Servers, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTI_FEATURE__ONLINE__WRITE_BATCH_ROWS", "500")
    feast, outcomes, is_over = world.feast(), [], threading.Event()

    def work() -> None:
        while not is_over.is_set():
            try:
                feast.materialize(START, END)
                feast.get_historical_features(asked(world, 3), AGE).to_df()
                outcomes.append("done")
            except StoreUnavailable:
                outcomes.append("unavailable")
            except Exception as error:  # noqa: BLE001 - it is shown below
                outcomes.append(repr(error))

    thread = threading.Thread(target=work)
    thread.start()
    started = time.monotonic()
    while time.monotonic() - started < (4 if "unavailable" in outcomes else 20):
        time.sleep(0.7)
        end(world.servers, "postgres")
        world.servers.start()
    is_over.set()
    thread.join()
    assert set(outcomes) <= {"done", "unavailable"}
    assert "unavailable" in outcomes
    world.online.client.flushdb()
    feast.materialize(START, END)
    assert world.is_converged()
