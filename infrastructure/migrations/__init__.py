"""All our tables, made and brought forward by Alembic: ``python -m infrastructure migrate``.

The PostgreSQL of this machine is migrated whenever it starts, so that a new checkout needs no step
before the first. Tables of a feature view follow from its definition and are versions of their own
(``python -m feature_store versions``); MLflow and Optuna make and migrate theirs.
"""

from __future__ import annotations

import logging
from pathlib import Path

from configs.errors import reason_of
from infrastructure.errors import ServiceError

VERSION_TABLE = "fti_migrations"
FOLDER = Path(__file__).parent


def migrate(database_url: str, revision: str = "head") -> tuple[str | None, str | None]:
    """Bring the tables forward; give the revisions before and after.

    One transaction a revision, and one process at a time: others wait.

    Raises
    ------
    ServiceError
        If the database cannot be reached or refuses; it is as it was before that revision.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.util import CommandError
    from sqlalchemy import create_engine, make_url
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    url = make_url(database_url).set(drivername="postgresql+psycopg")
    engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 10})
    options = {"version_table": VERSION_TABLE}
    try:
        with engine.connect() as connection:
            before = MigrationContext.configure(connection, opts=options).get_current_revision()
            connection.rollback()
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
            after = MigrationContext.configure(connection, opts=options).get_current_revision()
    except (SQLAlchemyError, CommandError) as error:
        raise ServiceError(f"The tables cannot be brought forward: {reason_of(error)}") from error
    return before, after
