"""A database in a file, and back: by ``pg_dump`` and ``pg_restore``, checked by SHA-256.

Redis is not in it: the feature pipeline fills it again from PostgreSQL. The artifacts of an MLflow
server on this machine are.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from datetime import datetime
from pathlib import Path

import psycopg

from configs.errors import reason_of
from infrastructure.errors import ServiceError
from infrastructure.migrations import VERSION_TABLE
from infrastructure.servers.postgres import INSTALLED, PACKAGE
from infrastructure.servers.tracking import SCHEMA
from infrastructure.servers.wheels import site_of

DUMP, ARTIFACTS, MANIFEST = "database.dump", "mlflow.zip", "manifest.json"
TABLES = """
SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"""


def backup(database_url: str, artifacts: Path, folder: Path, now: datetime) -> Path:
    """Write the database and MLflow's artifacts into a new folder, whole or not at all.

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
    _run("pg_dump", "--format=custom", f"--file={unfinished / DUMP}", database_url)
    if artifacts.is_dir():
        shutil.make_archive(str((unfinished / ARTIFACTS).with_suffix("")), "zip", artifacts)
    files = {path.name: _sha256(path) for path in sorted(unfinished.iterdir())}
    manifest = {"made_at": now.isoformat(), "files": files}
    (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    unfinished.rename(folder)
    return folder


def restore(folder: Path, database_url: str, artifacts: Path) -> None:
    """Bring a backup into a database without rows, in one transaction, and artifacts beside it.

    Raises
    ------
    ServiceError
        If the backup is not whole, a table has rows, or PostgreSQL refuses.
    """
    files = _verify(folder)
    _make_room(database_url, artifacts)
    _run(
        *("pg_restore", "--exit-on-error", "--single-transaction", "--no-owner"),
        *(f"--dbname={database_url}", str(folder / DUMP)),
    )
    if ARTIFACTS in files:
        artifacts.mkdir(parents=True, exist_ok=True)
        shutil.unpack_archive(folder / ARTIFACTS, artifacts)


def _verify(folder: Path) -> dict[str, str]:
    try:
        files: dict[str, str] = json.loads((folder / MANIFEST).read_text())["files"]
        wrong = [name for name, digest in files.items() if _sha256(folder / name) != digest]
    except (OSError, ValueError, KeyError) as error:
        raise ServiceError(f"{folder} is no whole backup: {error}") from error
    if wrong:
        raise ServiceError(f"{', '.join(wrong)} in {folder} was altered since the backup.")
    return files


def _make_room(database_url: str, artifacts: Path) -> None:
    """Remove the empty tables that a migration has made; refuse if anything is not empty."""
    if artifacts.is_dir() and any(artifacts.iterdir()):
        raise ServiceError(f"{artifacts} is not empty; nothing is overwritten. Move it away.")
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
            connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA}")
    except psycopg.Error as error:
        raise ServiceError(f"The database cannot be reached: {reason_of(error)}") from error


def _has_rows(connection: psycopg.Connection, table: str) -> bool:
    found = connection.execute(f"SELECT FROM {table} LIMIT 1").rowcount
    return found == 1 and not table.endswith(f".{VERSION_TABLE}")


def _run(program: str, *arguments: str) -> None:
    done = subprocess.run(
        [_path_of(program), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ServiceError(f"{program}: {' '.join(done.stderr.split())}")


def _path_of(program: str) -> str:
    """Those that came with the server of this project are new enough for it."""
    ours = site_of(PACKAGE) / INSTALLED / "bin" / program
    found = str(ours) if ours.exists() else shutil.which(program)
    if found is None:
        raise ServiceError(f"{program} is not on PATH. Install PostgreSQL's client programs.")
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
