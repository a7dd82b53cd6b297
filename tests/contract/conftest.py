"""Feast over real servers: a few hundred real users in a database and a Redis of this module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from configs.settings import Settings
from tests.worlds.feast import World, feast_world


@pytest.fixture(scope="module")
def world(settings: Settings) -> Iterator[World]:
    """Filled stores, and a Feast repository that has been applied."""
    with feast_world(settings) as world:
        yield world
