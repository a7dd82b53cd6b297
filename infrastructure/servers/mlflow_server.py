"""The program of the MLflow server: what ``mlflow server`` runs, in one process.

``mlflow server`` imports all of MLflow twice, in itself and in the server that it then starts;
doing both here halves the seconds until the server answers.
"""

from __future__ import annotations

import argparse
import functools
import os
import socket
from typing import Any

from infrastructure.servers.ports import LOOPBACK

ARTIFACT_ROOT = "mlflow-artifacts:/"  # clients send and fetch artifacts through the server


def main() -> None:
    """Serve until told to stop; the database comes in ``MLFLOW_BACKEND_STORE_URI``."""
    parser = argparse.ArgumentParser(description="Run the MLflow server in one process.")
    parser.add_argument("--host", help="address to listen on, with --port")
    parser.add_argument("--port", type=int)
    parser.add_argument("--listener", type=int, help="number of an inherited socket that listens")
    parser.add_argument("--artifacts", required=True, help="folder that holds the artifacts")
    arguments = parser.parse_args()
    if arguments.listener is None and None in (arguments.host, arguments.port):
        parser.error("expected --host and --port, or --listener")

    import uvicorn  # before MLflow, which switches its access rules on when it sees a server
    from mlflow.server import constants, handlers

    database = os.environ["MLFLOW_BACKEND_STORE_URI"]
    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: database,
        constants.ARTIFACT_ROOT_ENV_VAR: ARTIFACT_ROOT,
        constants.ARTIFACTS_DESTINATION_ENV_VAR: arguments.artifacts,
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
    }
    number_versions()
    handlers.initialize_backend_stores(database, database, ARTIFACT_ROOT)

    from mlflow.server.fastapi_app import app

    config = uvicorn.Config(app, host=arguments.host or LOOPBACK, port=arguments.port or 0)
    # Importing took seconds: a port that was only looked up would be somebody else's by now.
    given = arguments.listener
    uvicorn.Server(config).run(None if given is None else [socket.socket(fileno=given)])


def number_versions() -> None:
    """Let a client change a stage and archive the others in it, as MLflow's page does.

    MLflow compares the number of a version with its text there; PostgreSQL refuses that from
    psycopg 3, which says that it sends a text.
    """
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    change: Any = SqlAlchemyStore.transition_model_version_stage

    @functools.wraps(change)
    def with_number(self: Any, name: str, version: str, *rest: Any, **named: Any) -> Any:
        return change(self, name, int(version), *rest, **named)

    SqlAlchemyStore.transition_model_version_stage = with_number  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
