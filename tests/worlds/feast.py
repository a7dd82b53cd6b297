"""Feast over real servers: a few hundred real users in a database and a Redis of their own."""

from __future__ import annotations

import runpy
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, ValueType
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
)
from feast.infra.online_stores.online_store import OnlineStore as FeastOnlineStore
from feast.online_response import OnlineResponse
from feast.repo_config import load_repo_config
from feast.types import Int64
from redis import Redis

from benchmarks.harness.stage import real_rows
from configs.settings import ROOT, Settings, load_settings
from feature_store import connect
from feature_store.definitions.engine import Engine, FeatureMatrix
from feature_store.feast_plugin.online.reading import mark_nulls
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline.postgres import Postgres
from feature_store.offline_store import Labels, OfflineStore
from feature_store.online_store import OnlineStore
from infrastructure.embedded import redis_url
from infrastructure.servers.ports import take_any
from tests.worlds.databases import own_database

REPO = ROOT / "feature_store" / "feast_repo"
OBJECTS = (
    *("entity", "source", "view", "activity_source", "activity"),
    *("packed", "on_request", "service", "service_on_request"),
)
USERS = 600
UNKNOWN = 999_999
CREATED = datetime(2024, 6, 1, 12, 30, 15, 123_456, tzinfo=UTC)
YEAR = np.timedelta64(365, "D")


@dataclass
class World:
    """Stores that hold 600 users, some with a second row a year later, and Feast over them."""

    matrix: FeatureMatrix
    labels: Labels
    offline: OfflineStore
    online: OnlineStore
    redis: Redis
    feast: FeatureStore
    objects: dict[str, Any]

    @property
    def view(self) -> FeatureView:
        return self.objects["view"]

    @property
    def service(self) -> FeatureService:
        return self.objects["service"]

    def packed_rows(self) -> dict[bytes, bytes]:
        """Every online row, byte for byte."""
        keys = sorted(self.redis.scan_iter(f"{self.online.prefix}*", count=10_000))
        return dict(zip(keys, self.redis.mget(keys), strict=True)) if keys else {}

    def feast_with(self, **parts: Any) -> FeatureStore:
        """Feast over the same repository with parts of ``feature_store.yaml`` replaced."""
        config = load_repo_config(REPO, REPO / "feature_store.yaml")
        given = {
            "project": config.project,
            "provider": config.provider,
            "registry": config.registry_config,
            "offline_store": config.offline_config,
            "online_store": config.online_config,
            "batch_engine": config.batch_engine_config,
            "entity_key_serialization_version": 3,
        }
        return FeatureStore(config=type(config)(**(given | parts)))


def foreign_view(table: str, name: str = MODEL_VIEW.name, **options: Any) -> FeatureView:
    """A view of somebody else's, over a table with `user_id`, two times and `age`."""
    entity = Entity(name="user_id", join_keys=["user_id"], value_type=ValueType.INT64)
    source = PostgreSQLSource(
        name=f"{table}_source",
        table=table,
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
    )
    fields = [Field(name="user_id", dtype=Int64), Field(name="age", dtype=Int64)]
    given: dict[str, Any] = {"entities": [entity], "schema": fields, "source": source}
    return FeatureView(name=name, **(given | options))


def make_table(postgres: Postgres, table: str, age: int) -> None:
    """Make the table of a `foreign_view`: users 1 to 3, all of one age."""
    with postgres.transaction() as connection:
        connection.execute(
            f"CREATE TABLE {table} AS SELECT n::bigint AS user_id, %s::bigint AS age, "
            "now() - interval '1 day' AS event_timestamp, now() AS created_timestamp "
            "FROM generate_series(1, 3) AS n",
            (age,),
        )


def outcome(read: Any) -> tuple[str, Any]:
    """What a read answers, in all its forms, or how it fails."""
    try:
        response: OnlineResponse = read()
    except Exception as error:  # noqa: BLE001 - compared with another one
        return type(error).__name__, str(error)
    before = response.to_dict(), response.to_dict(True)
    message = response.proto.SerializeToString(deterministic=True)
    assert (response.to_dict(), response.to_dict(True)) == before
    return "answered", (before, list(before[1]), message, repr(response.to_df(True).to_dict()))


def by_feast(feast: FeatureStore, *request: Any, **options: Any) -> OnlineResponse:
    """Feast's own way over our rows."""
    store = feast.provider.online_store
    response = FeastOnlineStore.get_online_features(
        store, feast.config, *request, feast.registry, feast.project, **options
    )
    mark_nulls(response.proto)
    return response


@contextmanager
def served(app: FastAPI) -> Iterator[httpx.Client]:
    """A client of the app, which is served in a thread until the block ends."""
    taken = take_any(listening=False)
    server = uvicorn.Server(uvicorn.Config(app, port=taken.number, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        # The server drops a connection over which it answered 500.
        limits, url = httpx.Limits(max_keepalive_connections=0), f"http://127.0.0.1:{taken.number}"
        with httpx.Client(base_url=url, timeout=30, limits=limits) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
        taken.close()


@contextmanager
def feast_world(settings: Settings) -> Iterator[World]:
    """Filled stores, and a Feast repository that has been applied."""
    with pytest.MonkeyPatch.context() as patch, own_database(settings) as url:
        patch.setenv("DATABASE_URL", url)
        # What these tests ask is not how fast a busy machine is; those of deadlines set their own.
        patch.setenv("FTI_FEATURE__ONLINE__READ_DEADLINE_MS", "2000")
        patch.setenv("REDIS_URL", redis_url(settings).removesuffix("/0") + "/5")
        made = _filled()
        made.redis.flushdb()
        made.online.write(made.matrix, CREATED)
        made.feast.apply([made.objects[name] for name in OBJECTS])
        yield made
        made.redis.flushdb()


def _filled() -> World:
    settings = load_settings()
    matrix, labels = _users(settings)
    offline, online = connect.offline_store(settings), connect.online_store(settings)
    offline.append(matrix, MODEL_VIEW.entity, CREATED)
    offline.append_labels(labels, CREATED)
    objects = runpy.run_path(str(REPO / "features.py"))
    feast = FeatureStore(repo_path=str(REPO))
    return World(matrix, labels, offline, online, online.client, feast, objects)


def _users(settings: Settings) -> tuple[FeatureMatrix, Labels]:
    """Real users with their missing values; every third has moved on a year later."""
    engine = Engine(MODEL_VIEW)
    first, labels = real_rows(settings, USERS)
    first.values[-1] = engine.row({})
    first.values[-2] = engine.row({"age": 40, "workclass": "never seen before"})
    later = first.rows(np.arange(0, len(first), 3))
    older = [engine.override(vector, {"age": 50}) for vector in later.values]
    later = replace(later, values=np.array(older), times=later.times + YEAR)
    return _stacked(first, later), labels


def _stacked(first: FeatureMatrix, second: FeatureMatrix) -> FeatureMatrix:
    return FeatureMatrix(
        np.concatenate([first.values, second.values]),
        np.concatenate([first.keys, second.keys]),
        np.concatenate([first.times, second.times]),
        first.schema,
    )
