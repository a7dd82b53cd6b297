"""What tests of several rooms share: settings with real servers of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from configs.settings import Settings, load_settings
from infrastructure import embedded
from models.base import share_cores
from tests.worlds.databases import own_database


def pytest_configure() -> None:
    """Forget settings in the environment: a test says what it needs. Tests share the cores.

    Random examples are the same in every run, and no test fails for the time it takes.
    """
    hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
    hypothesis.settings.load_profile("repeatable")
    share_cores()
    of_others = ("MLFLOW_DATABASE_URL", "AIRFLOW_DATABASE_URL")
    for name in ("DATABASE_URL", *of_others, "REDIS_URL", "MLFLOW_TRACKING_URI", "MODEL_NAME"):
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


@pytest.fixture
def database_url(settings: Settings) -> Iterator[str]:
    """The URL of a database of this test's own: all tables, no rows."""
    with own_database(settings) as url:
        yield url


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A local server that speaks S3 and asks nobody who they are."""
    program = Path(sys.executable).parent / "moto_server"
    server = subprocess.Popen(
        [program, "-H", "127.0.0.1", "-p", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
    )
    assert server.stderr is not None
    said = server.stderr
    url = next(line for line in said if "Running on" in line).rpartition(" ")[2].strip()
    reading = threading.Thread(target=said.read)
    reading.start()
    yield url
    server.terminate()
    reading.join()
    said.close()
    server.wait()
