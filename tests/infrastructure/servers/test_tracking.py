"""The MLflow server, as a client of it sees it."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress

import psycopg
import pytest

from configs.settings import Settings, load_settings
from infrastructure import embedded
from infrastructure.errors import ServiceError
from infrastructure.servers import ports, services
from infrastructure.servers.tracking import WANTED_PORT


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings with an MLflow server that found its usual port taken."""
    settings = load_settings(var_dir=tmp_path_factory.mktemp("tracking"))
    with suppress(OSError), socket.create_server((ports.LOOPBACK, WANTED_PORT)):
        embedded.mlflow_url(settings)
    embedded.redis_url(settings)
    yield settings
    embedded.delete(settings)


def send(settings: Settings, method: str, path: str, body: bytes) -> None:
    url = f"{embedded.mlflow_url(settings)}/api/2.0/{path}"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def test_it_takes_the_next_free_port_and_runs_once(tracking: Settings) -> None:
    url = embedded.mlflow_url(tracking)
    running = services.find("mlflow", tracking)
    assert running is not None
    assert running.port > WANTED_PORT
    assert url == f"http://localhost:{running.port}"
    assert [each.started for _, each in embedded.up(tracking) if each] == [False] * 3


def test_records_are_in_a_database_of_their_own(tracking: Settings) -> None:
    send(tracking, "POST", "mlflow/experiments/create", b'{"name": "mine"}')
    with psycopg.connect(str(embedded.mlflow_database_url(tracking))) as connection:
        names = connection.execute("SELECT name FROM mlflow.experiments").fetchall()
        assert ("mine",) in names
    with psycopg.connect(embedded.postgres_url(tracking)) as connection:
        found = connection.execute("SELECT to_regclass('experiments')").fetchone()
        assert found == (None,)


def test_artifacts_pass_through_the_server_into_var(tracking: Settings) -> None:
    send(tracking, "PUT", "mlflow-artifacts/artifacts/folder/hello.txt", b"hello")
    assert (tracking.var_dir / "mlflow" / "folder" / "hello.txt").read_bytes() == b"hello"


def test_it_stops_before_the_stores(tracking: Settings) -> None:
    assert [each.name for each in embedded.down(tracking)] == ["mlflow", "valkey", "postgres"]


def test_a_database_that_cannot_be_reached_is_one_clear_error(own: Settings) -> None:
    with closing(ports.take_any(listening=False)) as nobody:
        nowhere = f"postgresql://me:secret@{ports.LOOPBACK}:{nobody.number}/fti"
        settings = load_settings(var_dir=own.var_dir, database_url=nowhere)
        with pytest.raises(
            ServiceError, match="Check MLFLOW_DATABASE_URL, or DATABASE_URL"
        ) as caught:
            embedded.mlflow_url(settings)
    assert "secret" not in str(caught.value)
