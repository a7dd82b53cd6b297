"""Run the API: ``python -m serving --port 8000``."""

from __future__ import annotations

import argparse
import logging
import signal
import socket
import sys
from types import FrameType

from configs.deployment_config import MOST_WORKERS
from configs.errors import FTIError
from configs.settings import Settings, load_settings
from infrastructure.servers.ports import http_url
from serving.middleware.access import print_new_key
from serving.process.listening import join, listen
from serving.process.logs import log_as_json
from serving.process.presence import announce
from serving.process.runtime import prepare_threads
from serving.process.supervisor import Supervisor, become_worker

DRAIN_LIMIT_S = 10


def main(arguments: list[str] | None = None) -> int:
    """Answer predictions over HTTP until told to stop; return the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["new-key"]:
        return print_new_key(words[1:])
    if words[:1] == ["ship"]:
        from serving.process.ship import ship_now

        return ship_now(words[1:])
    try:
        settings = load_settings(database_role="api")
        options = _parse(settings, arguments)
        if options.listener is not None:
            _serve(settings, become_worker(options.listener))
            return 0
        # What has a model on its disk may be knocked at before it has started.
        has_model = (settings.var_dir / "serving" / "current.json").exists()
        first = _first_listener(options, listening=has_model)
        listeners = join(first, options.workers, listening=has_model)
    except FTIError as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1
    host, port = listeners[0].getsockname()[:2]
    log_as_json()
    logging.getLogger("serving").info("API on %s/predict", http_url(host, port))
    with announce(settings.var_dir, http_url(host, port)):
        if options.workers == 1:
            _serve(settings, listeners[0])
        else:
            Supervisor([sys.executable, "-m", "serving"], listeners).run()
    return 0


def _first_listener(options: argparse.Namespace, *, listening: bool) -> socket.socket:
    if options.inherited is not None:
        return socket.socket(fileno=options.inherited)
    where = options.host, options.port, options.exact_port
    if options.share_port:
        return listen(*where, share=True, listening=listening)
    return listen(*where)


def _serve(settings: Settings, listener: socket.socket) -> None:
    # Slow to import, and not needed by a supervisor.
    import uvicorn

    from feature_store.feature_definitions import MODEL_VIEW
    from serving.api import create_app
    from serving.connect import prediction_service
    from serving.process.draining import DrainingServer
    from serving.process.http_protocol import OneWriteProtocol

    log_as_json()
    prepare_threads()
    service = prediction_service(settings)
    app = create_app(service, MODEL_VIEW, settings.deployment.api)
    proxies = settings.deployment.api.http.trusted_proxies
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=OneWriteProtocol,
        ws="none",
        access_log=False,
        log_config=None,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        server_header=False,
        timeout_graceful_shutdown=DRAIN_LIMIT_S,
    )
    # The server drains at a signal, then raises it again: to us that is an orderly end.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    follower = service.follower
    server = DrainingServer(config, app.state.traffic, lambda: follower.live is not None)
    server.run(sockets=[listener])


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _number_of_workers(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"{text}; expected a number from 1 to {MOST_WORKERS}")
    return int(text)


def _parse(settings: Settings, arguments: list[str] | None) -> argparse.Namespace:
    api = settings.deployment.api
    parser = argparse.ArgumentParser(
        prog="python -m serving",
        description="Run the API.",
        epilog="`python -m serving new-key --role predict` makes an API key; `python -m serving "
        "ship` sends what waits on this host to PostgreSQL.",
    )
    parser.add_argument(
        "--workers",
        type=_number_of_workers,
        default=api.workers,
        help=f"processes that answer, one a core at most; by default {api.workers}",
    )
    parser.add_argument("--listener", type=int, help=argparse.SUPPRESS)  # for a worker
    parser.add_argument("--inherited", type=int, help=argparse.SUPPRESS)  # a socket that listens
    parser.add_argument("--host", default=api.host, help=f"address, by default {api.host}")
    parser.add_argument("--port", type=int, default=api.port, help=f"by default {api.port}")
    parser.add_argument(
        "--exact-port", action="store_true", help="fail when the port is taken, use no other"
    )
    parser.add_argument(
        "--share-port",
        action="store_true",
        help="serve beside other processes that share the port, as in a rolling restart",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
