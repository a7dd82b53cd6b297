"""Worlds to serve in: each has a PostgreSQL database, Redis keys and a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.settings import Settings
from tests.worlds.serving import Api, World, new_world, running_api


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


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}
