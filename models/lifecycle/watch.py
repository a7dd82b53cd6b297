"""Adopts what stock MLflow clients change in the registry, through the gates; or puts it back.

`RegistryWatch` compares and answers; `run_watch` keeps one going as a background service.
"""

from __future__ import annotations

import http.server
import json
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import cast

from configs.errors import FTIError, reason_of
from configs.settings import Settings
from feature_store.errors import StoreUnavailable
from infrastructure.background import Repeating
from infrastructure.servers import services
from infrastructure.servers.launch import Service
from models.deployment.plan import ExperimentPlan
from models.deployment.promotion import Promoter, Target
from models.deployment.store import StageChange
from models.errors import DeploymentConflict, RegistryUnavailable
from models.lifecycle.requests import (
    RegistryRequest,
    RegistryState,
    find_requests,
    recorded_state,
    shown_state,
)
from models.registry.versions import Alias, ModelVersion, Stage

logger = logging.getLogger(__name__)

NAME = "registry-watch"
LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"

NOTE = "lifecycle"
"""The tag that tells what became of a request."""
MOST_AT_ONCE = 50
"""Requests that one call answers, so that none goes on for ever."""
TO_BE_TRIED_AGAIN = (StoreUnavailable, RegistryUnavailable, DeploymentConflict)


@dataclass(frozen=True)
class RegistryWatch:
    """Holds the registry against the record; `poll` is called again and again from one thread.

    Parameters
    ----------
    promoter
        Adopts requests.
    verify
        Raises when the artifact of a version is not what was registered.
    share, salt, plan
        Of an A/B test that an alias asks for.
    """

    promoter: Promoter
    verify: Callable[[ModelVersion], object]
    share: float
    salt: str
    plan: ExperimentPlan | None = None

    def poll(self) -> list[RegistryRequest]:
        """Look whether somebody changed the registry; adopt it, or put it back with the reason.

        Raises
        ------
        FTIError
            If PostgreSQL or MLflow does not answer, or somebody deploys at the same time; the
            next call tries again.
        """
        answered: list[RegistryRequest] = []
        while len(answered) < MOST_AT_ONCE and (asked := self._find_request()):
            request, versions, expected = asked
            self._answer(request, versions, expected)
            answered.append(request)  # others may mean something else now: look again
        return answered

    def _find_request(
        self,
    ) -> tuple[RegistryRequest, dict[int, ModelVersion], RegistryState] | None:
        """The most far-reaching request; None while the registry shows what is recorded."""
        versions, expected, seen = self._look()
        if expected == seen:
            return None
        # Perhaps a deployment is half shown: look again when none is under way.
        with self.promoter.store.undisturbed():
            versions, expected, seen = self._look()
        found = find_requests(expected, seen)
        return (found[0], versions, expected) if found else None

    def _look(self) -> tuple[dict[int, ModelVersion], RegistryState, RegistryState]:
        store, registry = self.promoter.store, self.promoter.registry
        versions = registry.versions()
        expected = recorded_state(versions, store.current(), store.stage_history())
        seen = shown_state(versions, registry.aliases(), expected)
        return {each.version: each for each in versions}, expected, seen

    def _answer(
        self,
        request: RegistryRequest,
        versions: Mapping[int, ModelVersion],
        expected: RegistryState,
    ) -> None:
        why_not = request.why_not or self._refusal(request, versions)
        version = versions.get(request.version)
        label = version.label if version else f"version {request.version}"
        if why_not:
            outcome = f"{request.what} by an MLflow client: put back, because {why_not}"
            stage = expected.stages.get(request.version, "None")
            path, now = (stage, request.stage, stage), self.promoter.clock()
            change = StageChange(request.version, label, path, outcome, now)
            self._put_back(request, versions, expected, change)
            logger.warning("%s: %s", label, outcome)
        else:
            outcome = f"{request.what} by an MLflow client: adopted"
            logger.info("%s: %s", label, outcome)
        if version is not None:
            when = self.promoter.clock().isoformat(timespec="seconds")
            self.promoter.registry.set_tags(version, {NOTE: f"{when} {outcome}"})

    def _refusal(self, request: RegistryRequest, versions: Mapping[int, ModelVersion]) -> str:
        """Carry out a request, or say why not."""
        version = versions.get(request.version)
        if version is None:
            return "it was not registered by the training pipeline and has nothing to serve"
        reason = f"{request.what} by an MLflow client"
        try:
            if request.kind in {"deploy", "test"}:
                self.verify(version)
            if request.kind == "deploy":
                self.promoter.deploy(version, reason)
            elif request.kind == "test":
                self.promoter.start_ab_test(version, self.share, self.salt, reason, plan=self.plan)
            elif request.kind == "stop_test":
                current = self.promoter.store.current()
                # Never None: a test that ended meanwhile must not undo the champion.
                name = (current.experiment if current else None) or ""
                self.promoter.roll_back(reason, name)
            else:
                self.promoter.set_stage(version, cast(Target, request.stage), reason)
        except TO_BE_TRIED_AGAIN:
            raise
        except FTIError as error:
            return reason_of(error)
        return ""

    def _put_back(
        self,
        request: RegistryRequest,
        versions: Mapping[int, ModelVersion],
        expected: RegistryState,
        refused: StageChange,
    ) -> None:
        """Show again what is recorded, and record that; one who deploys meanwhile has priority."""
        store, registry = self.promoter.store, self.promoter.registry
        with store.recording(None, [refused]):
            if self._look()[1] != expected:
                raise DeploymentConflict("Somebody deployed meanwhile; the registry is read again.")
            for number in request.versions:
                registry.set_stage(versions[number], cast(Stage, expected.stages[number]))
            for alias in request.aliases:
                target = expected.aliases.get(alias)
                if target is None:
                    registry.remove_alias(cast(Alias, alias))
                else:
                    registry.set_alias(cast(Alias, alias), versions[target])


def ensure_watch(settings: Settings) -> None:
    """Start the watch in the background unless it runs."""
    command = (sys.executable, "-m", "models", "watch", "--listener", "{listener}")
    services.ensure(Service(NAME, command), settings)


def run_watch(watch: RegistryWatch, poll_s: float, listener: socket.socket) -> None:
    """Poll the registry every so many seconds until a signal; ``/health`` answers there."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for every request
    watching = Repeating("registry watch", watch.poll, poll_s)
    address, handler = listener.getsockname()[:2], _handler(watching)
    with http.server.ThreadingHTTPServer(address, handler, bind_and_activate=False) as server:
        server.socket.close()
        server.socket = listener
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stop(server))
        watching.start()
        server.serve_forever()
    watching.stop()


def _stop(server: http.server.ThreadingHTTPServer) -> Callable[[int, FrameType | None], None]:
    def stop(number: int, frame: FrameType | None) -> None:
        # From another thread: it waits for the loop that this handler interrupts.
        threading.Thread(target=server.shutdown).start()

    return stop


def _handler(watching: Repeating) -> type[http.server.BaseHTTPRequestHandler]:
    class Health(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = json.dumps({"status": "watching", "problem": watching.problem}).encode()
            self.send_response(http.HTTPStatus.OK)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            """Say nothing: somebody asks every second."""

    return Health
