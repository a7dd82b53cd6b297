"""Airflow on this machine: an environment of its own, records and logs in ``var/airflow``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from configs.settings import ROOT, Settings
from infrastructure.errors import ServiceError
from infrastructure.servers import services
from infrastructure.servers.launch import Service
from infrastructure.servers.ports import LOOPBACK
from infrastructure.servers.services import Running

WANTED_PORT = 8080
ENVIRONMENT = ROOT / ".venv-airflow"
FOLDER = ROOT / "infrastructure" / "airflow"
USER = "admin"
TASKS_AT_ONCE = 2
"""Two tasks of ours fill a laptop."""


def ensure_airflow(settings: Settings) -> Running:
    """Start Airflow unless it runs, and wait until it answers.

    Raises
    ------
    ServiceError
        If its environment is not installed, or it does not start.
    """
    return services.ensure(service(settings.var_dir.absolute()), settings)


def become_airflow(settings: Settings, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by a command of Airflow's, which works on the local records.

    Raises
    ------
    ServiceError
        If Airflow is not installed, or was never started here.
    """
    command, var_dir = ENVIRONMENT / "bin" / "airflow", settings.var_dir.absolute()
    _refuse_uninstalled(command)
    if not (var_dir / "airflow" / "airflow.db").exists():
        raise ServiceError("Airflow has no records here yet. Start it first: make airflow")
    os.execve(command, [str(command), *arguments], {**os.environ, **variables(var_dir)})


def service(var_dir: Path, environment: Path = ENVIRONMENT) -> Service:
    """Describe the local Airflow."""
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
        environment=variables(var_dir),
        start_limit_s=300,  # it makes its tables when it starts for the first time
        prepare=partial(_prepare, var_dir, command),
    )


def variables(var_dir: Path) -> Mapping[str, str]:
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
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
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


def _prepare(var_dir: Path, command: Path, service: Service) -> Service:
    _refuse_uninstalled(command)
    (var_dir / "airflow").mkdir(parents=True, exist_ok=True)
    return service


def _refuse_uninstalled(command: Path) -> None:
    if not command.exists():
        raise ServiceError(f"Airflow is not installed: there is no {command}. Run `make airflow`.")
