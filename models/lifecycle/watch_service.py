"""The registry's watch as a background service, started once and stopped with the others."""

from __future__ import annotations

import http.server
import json
import logging
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

from configs.settings import Settings
from infrastructure.background import Repeating
from infrastructure.servers import services
from infrastructure.servers.launch import Service
from infrastructure.servers.ports import LOOPBACK
from models.connect import registry_watch

NAME = "registry-watch"
LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def ensure_watch(settings: Settings) -> None:
    """Start the watch in the background unless it runs."""
    command = (sys.executable, "-m", "models", "watch", "--port", "{port}")
    services.ensure(Service(NAME, command), settings)


def watch(settings: Settings, port: int) -> None:
    """Watch the registry until told to stop; ``/health`` answers on the port."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for every request
    poll_s = settings.deployment.registry_poll_ms / 1000
    watching = Repeating("registry watch", registry_watch(settings).poll, poll_s)
    with http.server.ThreadingHTTPServer((LOOPBACK, port), _handler(watching)) as server:
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
