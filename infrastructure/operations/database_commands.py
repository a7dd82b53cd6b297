"""The commands of ``python -m infrastructure`` that keep the database."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from configs.command_line import Debug, done, note
from configs.errors import reason_of
from configs.settings import load_settings
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

    before, after = bring_forward(embedded.postgres_url(load_settings()), to)
    if before == after:
        done(f"The tables are at revision {after} already")
    else:
        done(f"Tables: {before or 'none'} → {after}")


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

    url = embedded.postgres_url(load_settings())
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
    write(embedded.postgres_url(settings), artifacts, folder, datetime.now(UTC))
    done(f"Backup: {folder}")


@commands.command()
def restore(
    folder: Annotated[Path, typer.Argument(help="A backup.")], debug: Debug = False
) -> None:
    """Bring a backup into an empty database; then run the feature pipeline to fill Redis."""
    from infrastructure.operations.backup import restore as bring_back

    settings = load_settings()
    bring_back(folder, embedded.postgres_url(settings), settings.var_dir / "mlflow")
    done("Restored. Fill the online store: python pipelines/feature_pipeline.py --mode batch")
