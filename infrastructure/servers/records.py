"""What is known of a service between commands: one JSON file each, ``var/run/NAME.json``."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from configs.files import write_whole
from infrastructure.errors import ServiceError
from infrastructure.servers.homes import is_same_place
from infrastructure.servers.processes import Process


@dataclass(frozen=True)
class ServiceRecord:
    """A service as it was last started.

    Parameters
    ----------
    process
        Its process; None after it was stopped.
    is_ready
        False until it has answered once: whoever started it may have been killed before.
    definition
        A digest of what was asked for; another one means that the service must be restarted.
    var_dir
        The folder that this file belongs to. It may be moved; in a copy the record does not count.
    """

    name: str
    process: Process | None
    host: str
    port: int
    url: str
    definition: str
    stop_signal: int
    var_dir: str
    is_ready: bool = False

    @property
    def log_path(self) -> Path:
        """Where the service's output is."""
        return Path(self.var_dir) / "log" / f"{self.name}.log"


def read(var_dir: Path, name: str) -> ServiceRecord | None:
    """Read a service's record; None if there is none that counts.

    Raises
    ------
    ServiceError
        If another user has written it.
    """
    try:
        values = json.loads(_path(var_dir, name).read_text())
        process = values.pop("process")
        record = ServiceRecord(process=Process(**process) if process else None, **values)
    except PermissionError as error:
        raise ServiceError(
            f"Another user has started {name}: {error}. Run as that user or as root."
        ) from error
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError, AttributeError):
        return None  # never started, or written by another version of this program
    if not is_same_place(record.var_dir, var_dir):
        return None
    return replace(record, var_dir=str(var_dir))


def read_all(var_dir: Path) -> list[ServiceRecord]:
    """Read all records that count, by name."""
    names = sorted(path.stem for path in (var_dir / "run").glob("*.json"))
    return [record for name in names if (record := read(var_dir, name))]


def write(record: ServiceRecord) -> None:
    """Replace a record in one step; only we may read it, since URLs hold passwords."""
    path = _path(Path(record.var_dir), record.name)
    write_whole(path, json.dumps(asdict(record), indent=2), rights=0o600)


@contextmanager
def lock(var_dir: Path, name: str) -> Iterator[None]:
    """Keep other processes and threads from starting or stopping the same service."""
    path = _path(var_dir, name).with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the kernel releases it when the holder ends
        yield


def _path(var_dir: Path, name: str) -> Path:
    return var_dir / "run" / f"{name}.json"
