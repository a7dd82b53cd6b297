"""The program of the MLflow server: what ``mlflow server`` runs, in one process.

``mlflow server`` imports all of MLflow twice, in itself and in the server that it then starts;
doing both here halves the seconds until the server answers.
"""

from __future__ import annotations

import argparse
import os

ARTIFACT_ROOT = "mlflow-artifacts:/"  # clients send and fetch artifacts through the server


def main() -> None:
    """Serve until told to stop; the database comes in ``MLFLOW_BACKEND_STORE_URI``."""
    parser = argparse.ArgumentParser(description="Run the MLflow server in one process.")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--artifacts", required=True, help="folder that holds the artifacts")
    arguments = parser.parse_args()

    import uvicorn  # before MLflow, which switches its access rules on when it sees a server
    from mlflow.server import constants, handlers

    database = os.environ["MLFLOW_BACKEND_STORE_URI"]
    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: database,
        constants.ARTIFACT_ROOT_ENV_VAR: ARTIFACT_ROOT,
        constants.ARTIFACTS_DESTINATION_ENV_VAR: arguments.artifacts,
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
    }
    send_texts_untyped()
    handlers.initialize_backend_stores(database, database, ARTIFACT_ROOT)

    from mlflow.server.fastapi_app import app

    uvicorn.run(app, host=arguments.host, port=arguments.port)


def send_texts_untyped() -> None:
    """Let PostgreSQL find out the type of a text, as with the driver that MLflow is tested with.

    MLflow compares numbers of versions with texts where a stage is changed and the others in it
    are archived; psycopg 3 would send ``'2'::VARCHAR``, which no number is compared with.
    """
    from sqlalchemy import String
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

    PGDialect_psycopg.colspecs[String].render_bind_cast = False


if __name__ == "__main__":
    main()
