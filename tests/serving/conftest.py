"""Worlds to serve in: each has a PostgreSQL database, Redis keys and a folder of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from configs.settings import Settings
from feature_store.connect import online_store
from infrastructure.embedded import redis_url
from tests.worlds.databases import own_database
from tests.worlds.serving import Api, World, artifact_server, now, random_matrix, running_api


@contextmanager
def new_world(settings: Settings, folder: Path) -> Iterator[World]:
    name = f"test{uuid.uuid4().hex[:12]}"
    with own_database(settings) as url, artifact_server(folder / "artifacts") as artifacts:
        own = settings.model_copy(
            update={
                "var_dir": folder / "var",
                "database_url": url,
                "redis_url": redis_url(settings),
                "mlflow_tracking_uri": artifacts.url,
                "feature": settings.feature.model_copy(update={"project": name}),
            }
        )
        online, matrix = online_store(own), random_matrix()
        online.write(matrix, now())
        yield World(own, artifacts, online, matrix)
        online.client.close()


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> Iterator[World]:
    """A world of this test's own."""
    with new_world(settings, tmp_path) as world:
        yield world


@pytest.fixture(scope="module")
def shared_world(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world for the tests of a module that leave it as it is: version 1 is deployed."""
    with new_world(settings, tmp_path_factory.mktemp("world")) as world:
        world.deploy(1)
        yield world


@pytest.fixture(scope="module")
def api(shared_world: World) -> Iterator[Api]:
    """An API in the shared world."""
    with running_api(shared_world) as api:
        yield api
