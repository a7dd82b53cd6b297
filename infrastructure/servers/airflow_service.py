"""Airflow on this machine: an environment of its own, records in PostgreSQL, logs in ``var``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

import psycopg

from configs.settings import ROOT, Settings
from infrastructure.errors import ServiceError
from infrastructure.servers import services
from infrastructure.servers.launch import Service
from infrastructure.servers.ports import LOOPBACK
from infrastructure.servers.roles import AIRFLOW_SCHEMA as SCHEMA
from infrastructure.servers.schemas import ensure_schema, sqlalchemy_url
from infrastructure.servers.services import Running

WANTED_PORT = 8080
ENVIRONMENT = ROOT / ".venv-airflow"
FOLDER = ROOT / "infrastructure" / "airflow"
USER = "admin"
TASKS_AT_ONCE = 2
"""Two tasks of ours fill a laptop."""


def ensure_airflow(settings: Settings, database_url: str) -> Running:
    """Start Airflow unless it runs, and wait until it answers.

    Parameters
    ----------
    database_url
        PostgreSQL; records are kept in a schema of it.

    Raises
    ------
    ServiceError
        If its environment is not installed, or it does not start.
    """
    return services.ensure(service(settings.var_dir.absolute(), database_url), settings)


def become_airflow(settings: Settings, database_url: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by a command of Airflow's, which works on the local records.

    Raises
    ------
    ServiceError
        If Airflow is not installed, or was never started here.
    """
    command, var_dir = ENVIRONMENT / "bin" / "airflow", settings.var_dir.absolute()
    _refuse_uninstalled(command)
    ensure_schema(database_url, SCHEMA, "Airflow")
    if not _has_records(database_url):
        raise ServiceError("Airflow has no records here yet. Start it first: make airflow")
    told = {**os.environ, **variables(var_dir, database_url)}
    os.execve(command, [str(command), *arguments], told)


def service(var_dir: Path, database_url: str, environment: Path = ENVIRONMENT) -> Service:
    """Describe the local Airflow, which keeps its records in a schema of this database."""
    command = environment / "bin" / "airflow"
    return Service(
        name="airflow",
        command=(
            *(sys.executable, "-m", "infrastructure.servers.airflow_server"),
            f"--airflow={command}",
            f"--pools={FOLDER / 'pools.json'}",
            "--port={port}",
        ),
        wanted_port=WANTED_PORT,
        health_path="/api/v2/monitor/health",
        environment=variables(var_dir, database_url),
        start_limit_s=300,  # it makes its tables when it starts for the first time
        prepare=partial(_prepare, var_dir, database_url, command),
    )


def variables(var_dir: Path, database_url: str) -> Mapping[str, str]:
    """What Airflow is told: where things are, that one user may enter, and to be modest."""
    home = var_dir / "airflow"
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(FOLDER / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": str(TASKS_AT_ONCE),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": sqlalchemy_url(database_url, "psycopg2", SCHEMA),
        # Airflow would derive one for asyncpg, which knows neither `options` nor `sslmode`.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": sqlalchemy_url(
            database_url, "psycopg", SCHEMA
        ),
        "AIRFLOW__API__HOST": LOOPBACK,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "PIPELINES_PROJECT": str(ROOT),
        "PIPELINES_PYTHON": sys.executable,
        "FTI_VAR_DIR": str(var_dir),
    }


def password(settings: Settings) -> str:
    """The password of the one user, which Airflow has made."""
    path = settings.var_dir.absolute() / "airflow" / "passwords.json"
    try:
        return str(json.loads(path.read_text())[USER])
    except (OSError, ValueError, KeyError) as error:
        raise ServiceError(f"{path} has no password of {USER}. Its log: make status.") from error


def _prepare(var_dir: Path, database_url: str, command: Path, service: Service) -> Service:
    _refuse_uninstalled(command)
    home = var_dir / "airflow"
    home.mkdir(parents=True, exist_ok=True)
    ensure_schema(database_url, SCHEMA, "Airflow")
    if (home / "airflow.db").exists() and not _has_records(database_url):
        print(
            f"Airflow keeps its records in PostgreSQL now. Those of an older version stay in "
            f"{home / 'airflow.db'}, unused: switch the DAGs on again that you want.",
            file=sys.stderr,
        )
    return service


def _has_records(database_url: str) -> bool:
    """Tell whether Airflow has made its tables."""
    with psycopg.connect(database_url, connect_timeout=10) as connection:
        query = "SELECT to_regclass(%s)"
        return connection.execute(query, (f"{SCHEMA}.dag_run",)).fetchone() != (None,)


def _refuse_uninstalled(command: Path) -> None:
    if not command.exists():
        raise ServiceError(f"Airflow is not installed: there is no {command}. Run `make airflow`.")
