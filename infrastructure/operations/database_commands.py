"""The commands of ``python -m infrastructure`` that keep the database."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from configs.command_line import Debug, done, note
from configs.errors import reason_of
from configs.settings import Settings, load_settings
from infrastructure import embedded

commands = typer.Typer()
KEEP_MONTHS = 25
"""Two years and the month under way: enough to compare seasons, and a limit to what is kept."""


@commands.command()
def migrate(
    to: Annotated[str, typer.Option(help="A revision, such as 0002.")] = "head",
    debug: Debug = False,
) -> None:
    """Bring our tables in PostgreSQL forward to this version of the code."""
    from infrastructure.migrations import migrate as bring_forward

    url = owner_url(load_settings())
    before, after = bring_forward(url, to)
    if before == after:
        done(f"The tables are at revision {after} already")
    else:
        done(f"Tables: {before or 'none'} → {after}")
    _tell_missing(url)


@commands.command()
def roles(debug: Debug = False) -> None:
    """Make the roles of the parts, the databases of MLflow and Airflow; grant what each needs.

    DATABASE_URL is an administrator's here. Passwords come in DATABASE_OWNER_PASSWORD,
    DATABASE_PIPELINES_PASSWORD, DATABASE_API_PASSWORD, DATABASE_MLFLOW_PASSWORD and
    DATABASE_AIRFLOW_PASSWORD. What MLflow has kept beside our tables moves into its own database.
    """
    import os

    from infrastructure.migrations.grants import MLFLOW, ROLES
    from infrastructure.servers.roles import (
        DATABASES,
        MLFLOW_DATABASE,
        move_mlflow,
        prepare_roles,
        url_as,
    )

    settings = load_settings()
    if settings.database_url is None:
        embedded.postgres_url(settings)
        done("The roles of the PostgreSQL of this machine are there: it makes them when it starts")
        return
    names = {role: f"DATABASE_{role.removeprefix('fti_').upper()}_PASSWORD" for role in ROLES}
    passwords = {role: os.environ[name] for role, name in names.items() if os.environ.get(name)}
    prepare_roles(settings.database_url, passwords)
    done(f"Roles: {', '.join(ROLES)}; databases: {', '.join(DATABASES)}")
    for role in ROLES:
        if role not in passwords:
            note(f"{role} was given no password: one that it has stays. Set {names[role]}")
    if MLFLOW in passwords:
        own = url_as(settings.database_url, MLFLOW, passwords[MLFLOW], MLFLOW_DATABASE)
        if move_mlflow(settings.database_url, own):
            done(f"MLflow's records moved into the database {MLFLOW_DATABASE}")


def owner_url(settings: Settings) -> str:
    """Give the URL of the database for the owner of the tables."""
    return embedded.postgres_url(embedded.as_owner(settings))


def _tell_missing(url: str) -> None:
    """Say which roles nobody could be granted anything, since they are not there."""
    import psycopg

    from infrastructure.migrations.grants import missing_roles

    with psycopg.connect(url, connect_timeout=10) as connection:
        missing = missing_roles(connection)
    if missing:
        note(
            f"These roles are missing, so nothing was granted to them: {', '.join(missing)}. An "
            "administrator makes them: DATABASE_URL=… python -m infrastructure roles"
        )


@commands.command()
def partitions(
    keep_months: Annotated[
        int, typer.Option(min=1, help="Whole months of predictions to keep before this one.")
    ] = KEEP_MONTHS,
    debug: Debug = False,
) -> None:
    """Make the coming months of the prediction log; drop those that are too old."""
    import psycopg

    from infrastructure.errors import ServiceError
    from infrastructure.operations.partitions import maintain

    url = owner_url(load_settings())
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
            changes = maintain(connection, datetime.now(UTC), keep_months)
    except psycopg.Error as error:
        raise ServiceError(f"PostgreSQL refused: {reason_of(error)}") from error
    done(f"{len(changes.made)} months made, {len(changes.dropped)} dropped")
    for name in changes.made:
        note(f"+ {name}")
    for name in changes.dropped:
        note(f"- {name}")


@commands.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="A new folder.")], debug: Debug = False
) -> None:
    """Write PostgreSQL, and the artifacts of MLflow on this machine, into a folder."""
    from infrastructure.operations.backup import backup as write

    settings = load_settings()
    artifacts = settings.var_dir / "mlflow"
    others = embedded.own_databases(settings)
    write(owner_url(settings), artifacts, folder, datetime.now(UTC), others)
    done(f"Backup: {folder}")


@commands.command()
def restore(
    folder: Annotated[Path, typer.Argument(help="A backup.")], debug: Debug = False
) -> None:
    """Bring a backup into an empty database; then run the feature pipeline to fill Redis."""
    from infrastructure.operations.backup import restore as bring_back

    settings = load_settings()
    others = embedded.own_databases(settings)
    bring_back(folder, owner_url(settings), settings.var_dir / "mlflow", others)
    done("Restored. Fill the online store: python pipelines/feature_pipeline.py --mode batch")
