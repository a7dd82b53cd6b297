"""A database in a file, and back: by ``pg_dump`` and ``pg_restore``, checked by SHA-256.

Redis is not in it: the feature pipeline fills it again from PostgreSQL. The artifacts of an MLflow
server on this machine are, and the records of MLflow and Airflow, in databases of their own or
beside ours.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import psycopg

from configs.errors import reason_of
from infrastructure.errors import ServiceError
from infrastructure.migrations import VERSION_TABLE
from infrastructure.migrations.grants import GRANTS
from infrastructure.servers.postgres_clients import run_client
from infrastructure.servers.roles import DATABASES

DUMP, ARTIFACTS, MANIFEST = "database.dump", "mlflow.zip", "manifest.json"
SCHEMAS = (*DATABASES, "tuning")
TABLES = """
SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"""


def backup(
    database_url: str,
    artifacts: Path,
    folder: Path,
    now: datetime,
    others: Mapping[str, str] | None = None,
) -> Path:
    """Write the databases and MLflow's artifacts into a new folder, whole or not at all.

    Parameters
    ----------
    database_url
        Ours, as the owner of its tables.
    others
        Databases of MLflow and Airflow by name, of those that have one of their own.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ServiceError
        If the folder is there already, or the database cannot be read.
    """
    if folder.exists():
        raise ServiceError(f"{folder} is there already. Name a new folder.")
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for name, url in {DUMP: database_url, **_dumps(others)}.items():
        run_client("pg_dump", url, "--format=custom", f"--file={unfinished / name}")
    if artifacts.is_dir():
        shutil.make_archive(str((unfinished / ARTIFACTS).with_suffix("")), "zip", artifacts)
    files = {path.name: _sha256(path) for path in sorted(unfinished.iterdir())}
    manifest = {"made_at": now.isoformat(), "files": files}
    (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    unfinished.rename(folder)
    return folder


def restore(
    folder: Path, database_url: str, artifacts: Path, others: Mapping[str, str] | None = None
) -> None:
    """Bring a backup into databases without rows, each in one transaction, and artifacts beside.

    Tables belong to the role that restores them; what other roles may do is granted anew.

    Raises
    ------
    ServiceError
        If the backup is not whole, a table has rows, a database of others is not named, or
        PostgreSQL refuses.
    """
    files, targets = _verify(folder), _dumps(others)
    for name in DATABASES:
        if _dump_of(name) in files and _dump_of(name) not in targets:
            raise ServiceError(
                f"{folder} has a database {name} beside ours. Say where it goes: "
                f"{name.upper()}_DATABASE_URL."
            )
    if artifacts.is_dir() and any(artifacts.iterdir()):
        raise ServiceError(f"{artifacts} is not empty; nothing is overwritten. Move it away.")
    targets = {name: url for name, url in targets.items() if name in files}
    for url in (database_url, *targets.values()):
        _make_room(url)
    for name, url in {**targets, DUMP: database_url}.items():
        _load(url, folder / name)
    with psycopg.connect(database_url, connect_timeout=10) as connection:
        if connection.execute("SELECT to_regclass('feature_views')").fetchone() != (None,):
            connection.execute(GRANTS)
    if ARTIFACTS in files:
        artifacts.mkdir(parents=True, exist_ok=True)
        shutil.unpack_archive(folder / ARTIFACTS, artifacts)


def _dump_of(database: str) -> str:
    return f"{database}.dump"


def _dumps(others: Mapping[str, str] | None) -> dict[str, str]:
    return {_dump_of(name): url for name, url in (others or {}).items()}


def _load(database_url: str, dump: Path) -> None:
    how = ("--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges")
    run_client("pg_restore", database_url, *how, str(dump))


def _verify(folder: Path) -> dict[str, str]:
    try:
        files: dict[str, str] = json.loads((folder / MANIFEST).read_text())["files"]
        wrong = [name for name, digest in files.items() if _sha256(folder / name) != digest]
    except (OSError, ValueError, KeyError) as error:
        raise ServiceError(f"{folder} is no whole backup: {error}") from error
    if wrong:
        raise ServiceError(f"{', '.join(wrong)} in {folder} was altered since the backup.")
    return files


def _make_room(database_url: str) -> None:
    """Remove the empty tables that a migration has made; refuse if anything is not empty."""
    try:
        with psycopg.connect(database_url, connect_timeout=10) as connection:
            tables = [name for (name,) in connection.execute(TABLES).fetchall()]
            filled = [name for name in tables if _has_rows(connection, name)]
            if filled:
                raise ServiceError(
                    f"The database has {len(filled)} tables with rows already; nothing is "
                    "overwritten. Restore into an empty one: createdb, and DATABASE_URL."
                )
            for name in tables:
                connection.execute(f"DROP TABLE IF EXISTS {name} CASCADE")
            for schema in SCHEMAS:
                connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
    except psycopg.Error as error:
        raise ServiceError(f"The database cannot be reached: {reason_of(error)}") from error


def _has_rows(connection: psycopg.Connection, table: str) -> bool:
    found = connection.execute(f"SELECT FROM {table} LIMIT 1").rowcount
    return found == 1 and not table.endswith(f".{VERSION_TABLE}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
