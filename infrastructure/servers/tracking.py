"""The MLflow server: records in PostgreSQL, artifacts in ``var/mlflow``."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from infrastructure.errors import ServiceError
from infrastructure.servers.launch import Service
from infrastructure.servers.roles import (
    MLFLOW_DATABASE,
    MLFLOW_SCHEMA as SCHEMA,
    MOVED,
    move_mlflow,
)

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
            "MLFLOW_BACKEND_STORE_URI": backend_uri(database_url),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # for evaluations of language models
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        start_limit_s=180,  # it makes its tables when it starts for the first time
        prepare=partial(_prepare, var_dir, database_url, before_url),
    )


def backend_uri(database_url: str) -> str:
    """Give a PostgreSQL URL in SQLAlchemy's form, with MLflow's schema as search path.

    Examples
    --------
    >>> backend_uri("postgres://me:pw@db:5432/fti?sslmode=require")
    'postgresql+psycopg://me:pw@db:5432/fti?sslmode=require&options=-csearch_path%3Dmlflow'
    """
    parts = urlsplit(database_url)
    query = dict(parse_qsl(parts.query))
    query["options"] = f"{query.get('options', '')} -csearch_path={SCHEMA}".strip()
    return parts._replace(
        scheme="postgresql+psycopg", query=urlencode(query, quote_via=quote)
    ).geturl()


def _prepare(var_dir: Path, database_url: str, before_url: str | None, service: Service) -> Service:
    """Make the schema and the folder for artifacts; bring along what lay elsewhere."""
    import psycopg

    (var_dir / "mlflow").mkdir(parents=True, exist_ok=True)
    if before_url is not None and move_mlflow(before_url, database_url):
        print(
            f"MLflow's records moved into the database {MLFLOW_DATABASE}; the schema they lay in "
            f"is still there as {MOVED}.",
            file=sys.stderr,
        )
    try:
        with psycopg.connect(database_url, connect_timeout=10) as connection:
            there = connection.execute("SELECT to_regnamespace(%s)", (SCHEMA,)).fetchone()
            if there == (None,):
                connection.execute(f"CREATE SCHEMA {SCHEMA}")
    except psycopg.Error as error:
        raise ServiceError(
            f"Cannot use the database of MLflow: {error}. Check MLFLOW_DATABASE_URL, or "
            "DATABASE_URL where MLflow has none of its own."
        ) from error
    return service
