"""The MLflow server: records in PostgreSQL, artifacts in ``var/mlflow``."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from infrastructure.servers.launch import Service
from infrastructure.servers.roles import (
    MLFLOW_DATABASE,
    MLFLOW_SCHEMA as SCHEMA,
    MOVED,
    move_mlflow,
)
from infrastructure.servers.schemas import ensure_schema, sqlalchemy_url

WANTED_PORT = 5000


def service(var_dir: Path, database_url: str, before_url: str | None = None) -> Service:
    """Describe the server that keeps its records in a schema of its own in this database.

    Parameters
    ----------
    before_url
        The database, as an administrator, in which an older version kept them: they move.
    """
    return Service(
        name="mlflow",
        command=(
            sys.executable,
            "-m",
            "infrastructure.servers.mlflow_server",
            "--listener={listener}",
            f"--artifacts={var_dir / 'mlflow'}",
        ),
        wanted_port=WANTED_PORT,
        environment={
            # Not an argument: those of all processes can be read by everybody.
            "MLFLOW_BACKEND_STORE_URI": sqlalchemy_url(database_url, "psycopg", SCHEMA),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # for evaluations of language models
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        start_limit_s=180,  # it makes its tables when it starts for the first time
        prepare=partial(_prepare, var_dir, database_url, before_url),
    )


def _prepare(var_dir: Path, database_url: str, before_url: str | None, service: Service) -> Service:
    """Make the schema and the folder for artifacts; bring along what lay elsewhere."""
    (var_dir / "mlflow").mkdir(parents=True, exist_ok=True)
    if before_url is not None and move_mlflow(before_url, database_url):
        print(
            f"MLflow's records moved into the database {MLFLOW_DATABASE}; the schema they lay in "
            f"is still there as {MOVED}.",
            file=sys.stderr,
        )
    ensure_schema(database_url, SCHEMA, "MLflow")
    return service
