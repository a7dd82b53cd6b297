"""The service around Airflow: whatever its components start ends with it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psycopg
import pytest

from configs.settings import Settings
from infrastructure import embedded
from infrastructure.errors import ServiceError
from infrastructure.servers import airflow_service, services
from infrastructure.servers.processes import Process, descendants

NOWHERE = "postgresql://127.0.0.1:1/nothing"
COMPONENTS = """#!/bin/sh
# Stands where Airflow's command does: a server, and a task in a session of its own.
case "$1" in
  api-server)
    cd "$AIRFLOW_HOME" && exec {python} -m http.server "$AIRFLOW__API__PORT" -b 127.0.0.1 ;;
  scheduler) setsid sleep 300 & setsid sh -c 'trap "" TERM; sleep 301' & exec sleep 302 ;;
  dag-processor) exec sleep 303 ;;
esac
"""


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    command = tmp_path / "environment" / "bin" / "airflow"
    command.parent.mkdir(parents=True)
    command.write_text(COMPONENTS.format(python=sys.executable))
    command.chmod(0o755)
    return command.parents[1]


def test_a_stop_takes_sessions_of_tasks_along(own: Settings, environment: Path) -> None:
    var_dir = own.var_dir.absolute()
    health = var_dir / "airflow" / "api" / "v2" / "monitor" / "health"
    health.parent.mkdir(parents=True)
    health.write_text("fine")
    database_url = str(embedded.airflow_database_url(own))
    running = services.ensure(airflow_service.service(var_dir, database_url, environment), own)
    deadline = time.monotonic() + 20
    while len(descendants(running.pid)) < 6 and time.monotonic() < deadline:
        time.sleep(0.05)
    children = [Process.of(pid) for pid in descendants(running.pid)]
    assert len(children) == 6
    leader = Process.of(running.pid)
    assert leader is not None
    assert len(leader.family()) < 7  # the tasks have left the session
    # PostgreSQL does not go away under it.
    assert [each.name for each in embedded.down(own)] == ["airflow", "postgres"]
    assert not [child for child in children if child is not None and child.is_alive()]


def test_an_airflow_that_is_not_installed_is_named(own: Settings, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"Airflow is not installed.*Run `make airflow`"):
        services.ensure(airflow_service.service(own.var_dir, NOWHERE, tmp_path), own)


def test_without_a_password_the_place_is_named(own: Settings) -> None:
    with pytest.raises(ServiceError, match=r"passwords\.json has no password of admin"):
        airflow_service.password(own)


def test_an_older_version_s_records_are_told_of_and_left_alone(
    own: Settings, environment: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    var_dir = own.var_dir.absolute()
    old = var_dir / "airflow" / "airflow.db"
    old.parent.mkdir(parents=True)
    old.write_text("of SQLite")
    database_url = str(embedded.airflow_database_url(own))
    service = airflow_service.service(var_dir, database_url, environment)
    assert service.prepare is not None
    service.prepare(service)
    assert f"stay in {old}, unused: switch the DAGs on again" in capfd.readouterr().err
    assert old.read_text() == "of SQLite"
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE airflow.dag_run (id int)")
    service.prepare(service)
    assert capfd.readouterr().err == ""


def test_a_command_needs_records_to_work_on(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airflow_service, "ENVIRONMENT", own.var_dir)
    with pytest.raises(ServiceError, match="Airflow is not installed"):
        airflow_service.become_airflow(own, NOWHERE, ["dags", "list"])
    command = own.var_dir / "bin" / "airflow"
    command.parent.mkdir(parents=True)
    command.touch()
    with pytest.raises(ServiceError, match=r"Cannot use the database of Airflow.*AIRFLOW_DATABASE"):
        airflow_service.become_airflow(own, NOWHERE, ["dags", "list"])
    database_url = str(embedded.airflow_database_url(own))
    with pytest.raises(ServiceError, match="Start it first: make airflow"):
        airflow_service.become_airflow(own, database_url, ["dags", "list"])
