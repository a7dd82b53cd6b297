"""Background services: start one unless it runs, stop it, say how it is.

A service is started once however many programs ask for it at the same time, survives them, and is
found again through its record in ``var/run``.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from infrastructure.errors import StartError
from infrastructure.servers import ports, processes, records
from infrastructure.servers.launch import Service, await_ready, spawn, take_port
from infrastructure.servers.ports import TakenPort
from infrastructure.servers.processes import Process
from infrastructure.servers.records import ServiceRecord

if TYPE_CHECKING:
    from configs.settings import Settings


@dataclass(frozen=True)
class Running:
    """A service that runs; ``started`` tells whether this call started it."""

    name: str
    pid: int
    port: int
    url: str
    log_path: Path
    started: bool


@dataclass(frozen=True)
class Status:
    """How a service is: ``running``, ``starting``, ``stopped``, or ``elsewhere`` (a given URL)."""

    name: str
    state: str
    pid: int | None
    port: int | None
    url: str | None
    log_path: Path | None


def ensure(service: Service, settings: Settings) -> Running:
    """Start a service unless it runs, and wait until it is ready.

    One whose command, environment or wanted port has changed since is restarted. When the wanted
    port is taken the next free one is used, and a line on standard error says so.

    Raises
    ------
    StartError
        If it does not become ready; the message shows the end of its log.
    """
    try:
        return find(service.name, settings, service) or _restart(service, settings)
    except OSError as error:
        raise StartError(f"Cannot start {service.name}: {error}.") from error


def find(name: str, settings: Settings, service: Service | None = None) -> Running | None:
    """Give a service that runs; with ``service``, only if it runs as described there."""
    record = records.read(_var_dir(settings), name)
    if record is None or not _is_running(record):
        return None
    if service is not None and record.definition != _definition(service):
        return None
    return _running(record, started=False)


def stop(name: str, settings: Settings) -> Status | None:
    """End a service with all its processes; None if none runs."""
    var_dir = _var_dir(settings)
    with records.lock(var_dir, name):
        record = records.read(var_dir, name)
        return _end(record) if record else None


def stop_all(settings: Settings, last: Sequence[str] = ()) -> Iterator[Status]:
    """End all services, those named in ``last`` in that order after the others."""
    names = [record.name for record in records.read_all(_var_dir(settings))]
    others = [name for name in names if name not in last]
    for name in (*others, *(name for name in last if name in names)):
        if stopped := stop(name, settings):
            yield stopped


def status(settings: Settings) -> list[Status]:
    """Say how each service is that was ever started here."""
    return [_status(record) for record in records.read_all(_var_dir(settings))]


def _restart(service: Service, settings: Settings) -> Running:
    var_dir = _var_dir(settings)
    with records.lock(var_dir, service.name):
        if running := find(service.name, settings, service):
            return running  # somebody else was quicker
        record = records.read(var_dir, service.name)
        if record:
            _end(record)
        prepared = service.prepare(service) if service.prepare else service
        last_port = record.port if record else None
        started = _start(prepared, _definition(service), var_dir, last_port)
        return _running(started, started=True)


def _start(
    service: Service, definition: str, var_dir: Path, last_port: int | None
) -> ServiceRecord:
    log_path = var_dir / "log" / f"{service.name}.log"
    lost: list[str] = []
    deadline = time.monotonic() + service.start_limit_s
    while not lost or time.monotonic() < deadline:
        with closing(take_port(service, last_port)) as taken:
            ready = _start_on(taken, service, definition, var_dir, log_path)
        if ready is not None:
            return ready
        lost.append(str(taken.number))
    raise StartError(
        f"{service.name} lost its port to another program each time in "
        f"{service.start_limit_s:g} s (ports {', '.join(lost)}): something on this machine takes "
        "every port that is free. Stop it, and try again."
    )


def _start_on(
    taken: TakenPort, service: Service, definition: str, var_dir: Path, log_path: Path
) -> ServiceRecord | None:
    """Start a service on a port; None if another program was quicker to have it."""
    log_start = log_path.stat().st_size if log_path.exists() else 0
    child = spawn(service, taken, log_path)
    record = ServiceRecord(
        name=service.name,
        process=Process.of(child.pid),
        host=service.host,
        port=taken.number,
        url=service.url.replace("{port}", str(taken.number)),
        definition=definition,
        stop_signal=service.stop_signal,
        var_dir=str(var_dir),
    )
    try:
        records.write(record)
        if not await_ready(service, child, taken.number, log_path, log_start):
            _end(record)
            return None
        if service.complete:
            service.complete(record.url)
        ready = replace(record, is_ready=True)
        records.write(ready)
    except BaseException:
        _end(record)
        raise
    return ready


def _end(record: ServiceRecord) -> Status | None:
    """End what is left of a service; the record keeps the port for the next start."""
    process = record.process
    had_processes = process is not None and bool(process.family())
    if process is not None:
        processes.end(process.family, record.stop_signal)
        records.write(replace(record, process=None, is_ready=False))
    if process is None or not had_processes:
        return None
    return Status(record.name, "stopped", process.pid, record.port, record.url, record.log_path)


def _is_running(record: ServiceRecord) -> bool:
    return (
        record.is_ready
        and record.process is not None
        and record.process.is_alive()
        and ports.answers(record.port, record.host)
    )


def _running(record: ServiceRecord, started: bool) -> Running:
    pid = record.process.pid if record.process else 0
    return Running(record.name, pid, record.port, record.url, record.log_path, started=started)


def _status(record: ServiceRecord) -> Status:
    process, log_path = record.process, record.log_path
    if process is None or not process.is_alive():
        return Status(record.name, "stopped", None, record.port, None, log_path)
    state = "running" if _is_running(record) else "starting"
    return Status(record.name, state, process.pid, record.port, record.url, log_path)


def _definition(service: Service) -> str:
    parts = [
        service.command,
        sorted(service.environment.items()),
        service.wanted_port,
        service.host,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _var_dir(settings: Settings) -> Path:
    return settings.var_dir.absolute()
