"""What tests of several rooms share: settings with real servers of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from configs.settings import Settings, load_settings
from infrastructure import embedded
from models.cores import share_cores


def pytest_configure() -> None:
    """Forget settings in the environment: a test says what it needs. Tests share the cores."""
    share_cores()
    for name in ("DATABASE_URL", "REDIS_URL", "MLFLOW_TRACKING_URI", "MODEL_NAME"):
        os.environ.pop(name, None)
    for name in [name for name in os.environ if name.startswith("FTI_")]:
        del os.environ[name]


@pytest.fixture(autouse=True)
def _no_tracking_server_left_behind() -> Iterator[None]:
    """Forget the server that a test used: MLflow puts it into the environment for good."""
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings whose ``var_dir`` is this test process's own, with PostgreSQL and Valkey running.

    MLflow starts when a test first asks for ``embedded.mlflow_url(settings)``. With several test
    processes each has servers of its own.
    """
    settings = load_settings(var_dir=tmp_path_factory.mktemp("var"))
    embedded.postgres_url(settings)
    embedded.redis_url(settings)
    yield settings
    embedded.delete(settings)
