"""Worlds to score batches and to train in, each test with a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.settings import Settings
from tests.worlds import models
from tests.worlds.batch import BatchWorld
from tests.worlds.rows import first_rows
from tests.worlds.serving import World, new_world


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


@pytest.fixture(scope="session")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> models.Trainer:
    return models.Trainer(models.small_training(), tmp_path_factory.mktemp("trained"))


@pytest.fixture
def world(settings: Settings, trainer: models.Trainer, tmp_path: Path) -> Iterator[models.World]:
    """A world of this test's own, in which nothing is registered."""
    with models.new_world(settings, first_rows(4_000), trainer, tmp_path) as world:
        yield world
