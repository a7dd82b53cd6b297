"""Stores of their own for each test: a PostgreSQL database, a Redis key prefix."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from redis import Redis

from configs.settings import Settings
from feature_store.definitions.engine import FeatureMatrix
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline.postgres import Postgres
from feature_store.offline_store import OfflineStore
from feature_store.online_store import OnlineStore
from infrastructure.embedded import redis_url
from tests.worlds.rows import random_matrix


@pytest.fixture(autouse=True)
def _patient_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let reads take their time: other tests use the processor too."""
    monkeypatch.setenv("FTI_FEATURE__ONLINE__READ_DEADLINE_MS", "5000")


@pytest.fixture
def postgres(database_url: str) -> Postgres:
    """A database that only this test uses."""
    return Postgres(database_url)


@pytest.fixture
def offline(postgres: Postgres) -> OfflineStore:
    """An empty offline store."""
    return OfflineStore(postgres)


@pytest.fixture
def redis(settings: Settings) -> Iterator[Redis]:
    """A client of the real server."""
    with Redis.from_url(redis_url(settings), socket_timeout=5) as client:
        yield client


@pytest.fixture
def online(redis: Redis) -> OnlineStore:
    """An empty online store."""
    return OnlineStore(redis, f"test{uuid.uuid4().hex[:8]}", MODEL_VIEW.schema)


@pytest.fixture(scope="session")
def matrix() -> FeatureMatrix:
    """Features of 300 random users, some values missing or unseen, an hour apart."""
    return random_matrix(apart="h")
