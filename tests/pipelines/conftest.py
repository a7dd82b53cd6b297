"""Worlds for batches, each test with a folder of its own; and those of the models' tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.settings import Settings
from tests.models.conftest import rows, trainer, training, world  # noqa: F401
from tests.serving.conftest import new_world
from tests.worlds.batch import BatchWorld
from tests.worlds.serving import World


@pytest.fixture(scope="module")
def scored_world(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world in which version 1 is deployed and the offline store knows all users."""
    folder = tmp_path_factory.mktemp("scored")
    with new_world(settings, folder) as made:
        made.deploy(1)
        BatchWorld(made, folder).fill()
        yield made


@pytest.fixture
def batch(scored_world: World, tmp_path: Path) -> BatchWorld:
    return BatchWorld(scored_world, tmp_path)
