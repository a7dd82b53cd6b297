"""Start one program in the background and wait until it answers."""

from __future__ import annotations

import errno
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from configs.settings import ROOT
from infrastructure.errors import StartError
from infrastructure.servers import ports
from infrastructure.servers.homes import privileges
from infrastructure.servers.ports import TakenPort
from infrastructure.servers.processes import POLL_S, Process

LOG_LINES_SHOWN = 15
LISTENER = "{listener}"
IN_USE = os.strerror(errno.EADDRINUSE).lower()


@dataclass(frozen=True)
class Service:
    """A program that runs in the background, listens on a port and outlives its starter.

    Parameters
    ----------
    name
        What it is called in ``var/run``, ``var/log`` and messages.
    command
        Program and arguments; ``{port}`` stands for the port, and ``{listener}`` for the number of
        an inherited socket that listens there already: whoever can take one, should.
    wanted_port
        The port to listen on, or else the next free one; None for any, the same one each time.
    health_path
        Answers 200 when the program is ready.
    environment
        Variables set in addition to our own.
    host
        The address to listen on.
    url
        Where it is found; ``{port}`` stands for the port.
    folder
        Its working folder.
    account
        The user to run as; None for ours.
    stop_signal
        Asks it to end.
    start_limit_s
        How long it may take to become ready.
    is_ready
        Replaces the request for ``health_path``: takes the port, tells whether it is ready.
    prepare
        Called before each start, while nobody else can start the same service; gives the service
        with what only then is known (its folder, its account, a password in the URL).
    complete
        Called with the URL after each start, before anybody else finds the service running.
    """

    name: str
    command: tuple[str, ...]
    wanted_port: int | None = None
    health_path: str = "/health"
    environment: Mapping[str, str] = field(default_factory=dict)
    host: str = ports.LOOPBACK
    url: str = "http://localhost:{port}"
    folder: Path = ROOT
    account: int | None = None
    stop_signal: int = signal.SIGTERM
    start_limit_s: float = 60
    is_ready: Callable[[int], bool] | None = None
    prepare: Callable[[Service], Service] | None = None
    complete: Callable[[str], object] | None = None

    @property
    def takes_listener(self) -> bool:
        """Whether the program takes a socket; else it binds the port itself."""
        return any(LISTENER in part for part in self.command)


class Child(subprocess.Popen[bytes]):
    """A process that is meant to outlive us."""

    def __del__(self, *_: object) -> None:
        """Say nothing: the base class warns of a process that still runs."""


def spawn(service: Service, taken: TakenPort, log_path: Path) -> Child:
    """Start the program in a session of its own, its output appended to the log."""
    log_path.parent.mkdir(parents=True, exist_ok=True)
    passed = [taken.listener.fileno()] if taken.listener is not None else []
    words = {"{port}": str(taken.number), LISTENER: "".join(map(str, passed))}
    with log_path.open("ab") as log:
        return Child(
            [_filled(part, words) for part in service.command],
            cwd=service.folder,
            env={**os.environ, **service.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=passed,
            **privileges(service.account),
        )


def await_ready(service: Service, child: Child, port: int, log_path: Path, log_start: int) -> bool:
    """Wait until the program answers.

    Returns
    -------
    bool
        False if it ended because another program had the port.

    Raises
    ------
    StartError
        If it ended otherwise, or did not answer in time; the message has its last log lines.
    """
    process = Process.of(child.pid)
    deadline = time.monotonic() + service.start_limit_s
    is_ready = service.is_ready or (lambda port: _is_healthy(service, port))
    while time.monotonic() < deadline:
        if child.poll() is not None:
            if not service.takes_listener and _lost_its_port(service, port, log_path, log_start):
                return False
            outcome = f"ended with code {child.returncode} before it was ready"
            raise StartError(_with_log(service.name, outcome, log_path, log_start))
        # Another program on the same port may answer in its stead.
        if is_ready(port) and process and ports.is_held_by(port, process.family()):
            return True
        time.sleep(POLL_S)
    outcome = f"was not ready after {service.start_limit_s:g} s and was stopped"
    raise StartError(_with_log(service.name, outcome, log_path, log_start))


def take_port(service: Service, last_port: int | None) -> TakenPort:
    """Take the port to listen on; say so when it is not the wanted one."""
    wanted, listening = service.wanted_port, service.takes_listener
    if wanted is None:
        same = ports.take(last_port, service.host, listening=listening) if last_port else None
        return same or ports.take_any(service.host, listening=listening)
    taken = ports.take_from(wanted, service.host, listening=listening)
    if taken.number != wanted:
        holder = ports.holder(wanted) or "another program"
        print(
            f"Port {wanted} is held by {holder}: {service.name} uses {taken.number}.",
            file=sys.stderr,
        )
    return taken


def _lost_its_port(service: Service, port: int, log_path: Path, log_start: int) -> bool:
    """Tell whether another program has the port, or had it when the program wanted it."""
    is_held = not ports.is_free(port, service.host)
    return is_held or IN_USE in _log_since(log_path, log_start).lower()


def _filled(part: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        part = part.replace(word, value)
    return part


def _is_healthy(service: Service, port: int) -> bool:
    connection = http.client.HTTPConnection(service.host, port, timeout=2)
    try:
        connection.request("GET", service.health_path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _with_log(name: str, outcome: str, log_path: Path, log_start: int) -> str:
    lines = _log_since(log_path, log_start).splitlines()[-LOG_LINES_SHOWN:]
    shown = "".join(f"\n  | {line}" for line in lines) or " nothing."
    return f"{name} {outcome}. {log_path} ends with:{shown}"


def _log_since(log_path: Path, log_start: int) -> str:
    with log_path.open("rb") as log:
        log.seek(log_start)
        return log.read().decode(errors="replace")
