"""Where the API of this checkout listens, however it was started."""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from configs.files import write_whole
from configs.settings import Settings
from infrastructure.servers import services
from infrastructure.servers.homes import is_same_place
from infrastructure.servers.launch import Service
from infrastructure.servers.ports import http_url
from infrastructure.servers.processes import Process
from models.deployment.record import Deployment
from serving.errors import ServingError

ASK_LIMIT_S = 5.0
TAKE_UP_LIMIT_S = 15.0
POLL_S = 0.05


@dataclass(frozen=True)
class RunningApi:
    """An API process and its address."""

    url: str
    process: Process


@dataclass(frozen=True)
class RunningDeployment:
    """What an API says of itself under ``/ready``."""

    url: str
    generation: int
    deployment: str
    model_name: str
    project: str
    models: Mapping[str, str]

    @classmethod
    def of(cls, url: str, generation: int, answer: Mapping[str, object]) -> RunningDeployment:
        """Read its answer; an API of an older version says less."""
        models = answer.get("models")
        return cls(
            url,
            generation,
            deployment=str(answer.get("deployment", "")),
            model_name=str(answer.get("model_name", "?")),
            project=str(answer.get("project", "?")),
            models=models if isinstance(models, dict) else {},
        )

    def __str__(self) -> str:
        labels = " and ".join(self.models.values()) or "?"
        about = f"model {self.model_name}, {labels}, project {self.project}"
        return f"The API at {self.url} ({about})"


@contextmanager
def announce(folder: Path, url: str) -> Iterator[None]:
    """Leave word, while the body runs, that this process serves under a URL."""
    path = _path(folder)
    process = Process.of(os.getpid())
    about = {"url": url, "process": process and asdict(process), "var_dir": str(folder.absolute())}
    content = json.dumps(about)
    write_whole(path, content)
    try:
        yield
    finally:
        with suppress(OSError):
            if path.read_text() == content:  # another API may have been started since
                path.unlink()


def find_api(folder: Path) -> RunningApi | None:
    """Find the API that serves from this folder, if it lives; one of a copy of it is another's."""
    try:
        found = json.loads(_path(folder).read_text())
        api = RunningApi(found["url"], Process(**found["process"]))
        is_ours = is_same_place(found["var_dir"], folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return api if is_ours and api.process.is_alive() else None


def ensure_api(settings: Settings) -> str:
    """Give the URL of the API; start it in the background when none runs."""
    running = find_api(settings.var_dir)
    if running is not None:
        return running.url
    api = settings.deployment.api
    service = Service(
        name="api",
        command=(sys.executable, "-m", "serving", "--inherited", "{listener}"),
        wanted_port=api.port,
        host=api.host,
        url=http_url(api.host, "{port}"),
    )
    return services.ensure(service, settings).url


def await_deployment(
    url: str, record: Deployment, recorded: Callable[[int], Deployment | None]
) -> RunningDeployment:
    """Wait until the API serves a deployment, or a later one of the same records.

    Parameters
    ----------
    recorded
        Gives the deployment of a generation; None when it is not recorded.

    Raises
    ------
    ServingError
        If it does not in time, or serves what these records do not have: then it is the API of
        other records, as of another checkout.
    """
    deadline = time.monotonic() + TAKE_UP_LIMIT_S
    answer: dict[str, object] = {}
    while time.monotonic() < deadline:
        answer = _ready(url)
        live = answer.get("generation")
        if isinstance(live, int):
            found = RunningDeployment.of(url, live, answer)
            expected = record if live == record.generation else recorded(live)
            if expected is None or found.deployment != expected.digest:
                raise ServingError(
                    f"{found} serves a deployment {live} that is not recorded here; recorded is "
                    f"deployment {record.generation} of {record.champion.label}. It is the API "
                    "of another checkout or database, or of an older version of this program. "
                    "Stop it, or set deployment.api.port to another port, and deploy again."
                )
            if live >= record.generation:
                return found
        time.sleep(POLL_S)
    raise ServingError(
        f"Deployment {record.generation} is recorded, but the API at {url} has not taken it up "
        f"within {TAKE_UP_LIMIT_S:g} s (it says: {answer or 'nothing'}). Its log says why: "
        "make status."
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
