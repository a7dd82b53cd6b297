"""The MLflow server: records in PostgreSQL, artifacts in ``var/mlflow``."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from infrastructure.errors import ServiceError
from infrastructure.servers.launch import Service

WANTED_PORT = 5000
SCHEMA = "mlflow"


def service(var_dir: Path, database_url: str) -> Service:
    """Describe the server that keeps its records in a schema of its own in this database."""
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
        prepare=partial(_prepare, var_dir, database_url),
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


def _prepare(var_dir: Path, database_url: str, service: Service) -> Service:
    """Make the schema and the folder for artifacts."""
    import psycopg

    (var_dir / "mlflow").mkdir(parents=True, exist_ok=True)
    try:
        with psycopg.connect(database_url, connect_timeout=10) as connection:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    except psycopg.Error as error:
        raise ServiceError(
            f"Cannot use the database of MLflow: {error}. Check DATABASE_URL."
        ) from error
    return service
