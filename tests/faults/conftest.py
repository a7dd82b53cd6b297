"""Servers of a test's own, to be stopped and killed; and users whose rows are known."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from configs.settings import Settings, load_settings
from feature_store.definitions.engine import FeatureMatrix
from infrastructure import embedded
from tests.faults.servers import Servers
from tests.worlds.rows import random_matrix


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Both servers, running."""
    own = Servers(load_settings(var_dir=tmp_path_factory.mktemp("var")))
    own.start()
    yield own
    embedded.delete(own.embedded)


@pytest.fixture(scope="module")
def var(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Both stores, for the tests of a module only: they are stopped and killed."""
    settings = load_settings(var_dir=tmp_path_factory.mktemp("var"))
    embedded.postgres_url(settings)
    embedded.redis_url(settings)
    yield settings
    embedded.delete(settings)


@pytest.fixture(scope="session")
def matrix() -> FeatureMatrix:
    """Rows of 20,000 users: enough that a write takes a while."""
    return random_matrix(20_000, apart="s")
