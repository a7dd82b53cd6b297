"""Where the API of this checkout listens, however it was started."""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from configs.files import write_whole
from configs.settings import Settings
from infrastructure.servers import services
from infrastructure.servers.launch import Service
from infrastructure.servers.processes import Process
from serving.errors import ServingError

ASK_LIMIT_S = 5.0
TAKE_UP_LIMIT_S = 15.0
POLL_S = 0.05


@dataclass(frozen=True)
class RunningApi:
    """An API process and its address."""

    url: str
    process: Process


@contextmanager
def announce(folder: Path, port: int) -> Iterator[None]:
    """Leave word, while the body runs, that this process serves on a port."""
    path = _path(folder)
    process = Process.of(os.getpid())
    content = json.dumps(
        {"url": f"http://localhost:{port}", "process": process and asdict(process)}
    )
    write_whole(path, content)
    try:
        yield
    finally:
        with suppress(OSError):
            if path.read_text() == content:  # another API may have been started since
                path.unlink()


def find_api(folder: Path) -> RunningApi | None:
    """Find the API that serves from this folder, if it lives."""
    try:
        found = json.loads(_path(folder).read_text())
        api = RunningApi(found["url"], Process(**found["process"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return api if api.process.is_alive() else None


def ensure_api(settings: Settings) -> str:
    """Give the URL of the API; start it in the background when none runs."""
    running = find_api(settings.var_dir)
    if running is not None:
        return running.url
    api = settings.deployment.api
    service = Service(
        name="api",
        command=(sys.executable, "-m", "serving", "--port", "{port}", "--exact-port"),
        wanted_port=api.port,
        host=api.host,
    )
    return services.ensure(service, settings).url


def await_generation(url: str, generation: int) -> None:
    """Wait until the API serves a deployment, or a later one.

    Raises
    ------
    ServingError
        If it does not in time.
    """
    deadline = time.monotonic() + TAKE_UP_LIMIT_S
    answer: dict[str, object] = {}
    while time.monotonic() < deadline:
        answer = _ready(url)
        live = answer.get("generation", 0)
        if isinstance(live, int) and live >= generation:
            return
        time.sleep(POLL_S)
    raise ServingError(
        f"Deployment {generation} is recorded, but the API at {url} has not taken it up within "
        f"{TAKE_UP_LIMIT_S:g} s (it says: {answer or 'nothing'}). Its log says why: make status."
    )


def _ready(url: str) -> dict[str, object]:
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=ASK_LIMIT_S) as response:
            answer: dict[str, object] = json.load(response)
            return answer
    except (OSError, ValueError):
        return {}


def _path(folder: Path) -> Path:
    return folder / "serving" / "api.json"
