"""The metrics of all workers of a host: the worker that is scraped reports those of all.

Each worker writes its own to a file once a second. The counts of workers that have ended are kept,
as counters must never fall, until no worker is left.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from configs.files import write_whole
from infrastructure.servers.processes import Process
from serving.metrics.metrics import Snapshot
from serving.metrics.tallies import add_up

RETIRED = "retired.json"


class MetricFiles:
    """The files, seen by one worker.

    Parameters
    ----------
    folder
        Where they lie; made when it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / f"{os.getpid()}-{secrets.token_hex(4)}.json"
        self._has_begun = False

    def publish(self, snapshot: Snapshot) -> None:
        """Write the metrics of this worker, for the others to read."""
        if not self._has_begun:
            self._begin()
            self._has_begun = True
        _write(self.path, snapshot, Process.of(os.getpid()))

    def others(self) -> list[Snapshot]:
        """Read the metrics of all other workers, running and ended."""
        if not self.folder.exists():
            return []
        with self._locked(fcntl.LOCK_SH):
            read = list(self._others().values())
            alive = [_snapshot(each) for each in read if _lives(each)]
            gone = [_snapshot(each) for each in read if not _lives(each)]
            return [*alive, _retire([*gone, self._retired_before()])]

    def _begin(self) -> None:
        """Add up the counts of ended workers, or drop them when none is running."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked(fcntl.LOCK_EX):
            files = self._others()
            dead = {path: read for path, read in files.items() if not _lives(read)}
            if len(dead) < len(files):
                gone = [_snapshot(read) for read in dead.values()]
                _write(self.folder / RETIRED, _retire([*gone, self._retired_before()]), None)
            else:
                (self.folder / RETIRED).unlink(missing_ok=True)
            for path in dead:
                path.unlink()

    def _others(self) -> dict[Path, dict[str, Any]]:
        return {
            path: _read(path)
            for path in self.folder.glob("*-*.json")
            if path.name not in {self.path.name, RETIRED}
        }

    def _retired_before(self) -> Snapshot:
        return _snapshot(_read(self.folder / RETIRED))

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        with (self.folder / "lock").open("a") as file:
            fcntl.flock(file, how)
            yield


def _retire(parts: list[Snapshot]) -> Snapshot:
    """Add up what was counted; gauges are over."""
    names = {name for part in parts for name in part.tallies}
    return Snapshot({name: add_up(part.tallies.get(name, {}) for part in parts) for name in names})


def _write(path: Path, snapshot: Snapshot, process: Process | None) -> None:
    tallies = {name: list(cells.items()) for name, cells in snapshot.tallies.items()}
    values = {
        "process": process and asdict(process),
        "tallies": tallies,
        "watched": snapshot.gauges,
    }
    write_whole(path, json.dumps(values))


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _snapshot(values: dict[str, Any]) -> Snapshot:
    tallies = {
        name: {tuple(labels): cell for labels, cell in cells}
        for name, cells in values.get("tallies", {}).items()
    }
    return Snapshot(tallies, values.get("watched", {}))


def _lives(values: dict[str, Any]) -> bool:
    process = values.get("process")
    return process is not None and Process(**process).is_alive()
