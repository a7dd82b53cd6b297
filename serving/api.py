"""The HTTP face of the predictor: FastAPI, in which every failure is an answer."""

# Annotations are values here: FastAPI reads the type of a body that is made at run time.
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

from configs.deployment_config import ApiConfig
from configs.errors import FTIError
from feature_store.definitions.view import FeatureView
from infrastructure.background import Repeating
from infrastructure.work import Room
from serving.answers import Alive, Ready, json_response, problem, refusal, refusals
from serving.bodies.request_schema import request_schema, to_request
from serving.metrics.metrics import Metrics
from serving.middleware.access import OPEN_PATHS, Caller, KeyHolder, KeyRing, require_decided
from serving.middleware.access_log import AccessLog
from serving.middleware.rate_limit import RateLimit
from serving.middleware.request_gate import RequestGate, document_gate
from serving.middleware.traffic import Traffic
from serving.prediction.predictor import Answer
from serving.process.connections import Connections
from serving.process.runtime import GarbagePauses
from serving.routes.bulk_route import refuse_rows
from serving.routes.contract import document_contract
from serving.routes.docs_page import PATHS as DOCS_PATHS, add_docs
from serving.routes.json_route import JsonRoute
from serving.routes.misdirected import misdirected
from serving.service import PredictionService

NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
"""Looking for an OpenTelemetry provider costs each request 5 us; metrics are our own."""
TELL_WORKERS_S = 1.0
PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"
PROMETHEUS_DOCUMENT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}}
}


def create_app(
    service: PredictionService, view: FeatureView, config: ApiConfig | None = None
) -> FastAPI:
    """Make the app; its parts start and stop with it. Its ``state.traffic`` is what is in flight.

    Parameters
    ----------
    service
        What answers.
    view
        Whose raw columns and key a request may name.
    config
        Whom to let in, and how many at once.
    """
    config = config or ApiConfig()
    http, metrics, pauses = config.http, service.metrics, GarbagePauses()
    telling = Repeating(
        "metrics", lambda: service.numbers.publish(metrics.snapshot()), TELL_WORKERS_S
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        await service.start()
        telling.start()
        sweeps = [asyncio.create_task(each.sweep()) for each in (traffic, connections)]
        pauses.shorten()
        yield {"busy_wait": service.reader.busy_wait, "connections": connections}
        pauses.stop()
        for sweep in sweeps:
            sweep.cancel()
        await asyncio.to_thread(telling.stop)
        await service.stop()

    app = FastAPI(
        title="FTI predictions",
        description="Predicts from a user's stored features, from raw attributes, or from both.",
        version="1",
        lifespan=lifespan,
        telemetry=NO_TELEMETRY,
        servers=[{"url": http.root_path}] if http.root_path else None,
        redirect_slashes=False,  # a body and its key would follow wherever it leads
        openapi_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    traffic = app.state.traffic = Traffic(config.max_in_flight, config.request_limit_s)
    connections = Connections(http, traffic, metrics.refuse)
    app.state.bodies = Room("bytes of bodies are held", http.held_body_bytes, http.held_body_wait_s)
    service.add_gauges()
    in_flight = "Requests that are being answered."
    metrics.add_gauge("fti_http_requests_in_flight", in_flight, lambda: traffic.in_flight, sum)
    open_ones = "Connections of callers."
    metrics.add_gauge("fti_http_connections", open_ones, lambda: connections.number, sum)
    pause = "Longest pause of the garbage collector since the start."
    metrics.add_gauge(
        "fti_longest_garbage_collection_seconds", pause, lambda: pauses.longest_s, max
    )
    _add_predict(app, service, view, metrics)
    _add_probes(app, service, metrics)
    for add_routes in service.routes:
        add_routes(app)
    if http.docs:
        add_docs(app)
    _add_refusals(app, view)
    _add_gate(app, metrics, config)
    document_gate(app, asks_for_keys=bool(config.keys))
    document_contract(app)
    return app


def _add_gate(app: FastAPI, metrics: Metrics, config: ApiConfig) -> None:
    permissions = config.permissions
    holders = [
        KeyHolder(Caller(key.name, frozenset(permissions[key.role])), bytes.fromhex(key.key_sha256))
        for key in config.keys
    ]
    paths = [getattr(route, "path", "") for route in app.routes]
    open_paths = DOCS_PATHS if config.http.docs else frozenset()
    require_decided(paths, OPEN_PATHS | open_paths)
    limit, log = config.rate_limit, config.access_log
    app.add_middleware(
        RequestGate,
        keys=KeyRing(tuple(holders)),
        rate_limit=RateLimit(limit.per_second, limit.burst) if limit.per_second else None,
        traffic=app.state.traffic,
        metrics=metrics,
        access_log=AccessLog(every=log.requests == "all", slow_s=log.slow_ms / 1000),
        paths=paths,
        open_paths=open_paths,
        root_path=config.http.root_path,
    )
    if config.cors_origins:
        # Added last it is outermost: a browser asks by OPTIONS, without a key, what it may do.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=config.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-Id"],
            expose_headers=["X-Request-Id", "Retry-After"],
        )


def _add_predict(
    app: FastAPI, service: PredictionService, view: FeatureView, metrics: Metrics
) -> None:
    body_schema = request_schema(view)
    app.router.route_class = JsonRoute

    @app.post("/predict", response_model=Answer, responses=refusals(404, 422, 503))
    async def predict(body: body_schema) -> bytes:  # type: ignore[valid-type]
        """Predict; a receipt of the prediction is kept under its ``prediction_id``."""
        answer = await service.predictor.predict(to_request(body, view.key))
        asyncio.get_running_loop().call_soon(metrics.observe, answer)  # while it is on its way
        return to_json(vars(answer))

    # Routes are tried in order, and this one is asked for most.
    app.router.routes.insert(0, app.router.routes.pop())


def _add_probes(app: FastAPI, service: PredictionService, metrics: Metrics) -> None:
    app.router.route_class = APIRoute

    @app.get("/health")
    async def health() -> Alive:
        """Tell that the process is alive; depends on nothing else."""
        return Alive(status="alive")

    @app.get("/ready", response_model=Ready, responses=refusals(503))
    async def ready() -> Response:
        """Tell whether predictions can be answered, and by which models."""
        missing = service.problem()
        if missing is not None:
            return problem(missing, 503)
        live = service.follower.require()
        about = {
            "status": "ready",
            "generation": live.deployment.generation,
            "deployment": live.deployment.digest,
            "models": {arm.arm.name: arm.arm.label for arm in live.arms},
            "model_name": service.model_name,
            "project": service.project,
        }
        return json_response(about)

    @app.get("/metrics", response_class=Response, responses=PROMETHEUS_DOCUMENT)
    async def show_metrics() -> Response:
        """Show the metrics in Prometheus's text format."""
        others = await asyncio.to_thread(service.numbers.others)
        text = metrics.text([metrics.snapshot(), *others])
        return Response(text, headers={"Content-Type": PROMETHEUS_TEXT})


def _add_refusals(app: FastAPI, view: FeatureView) -> None:
    known = [*view.key.columns, "unit_id", *view.attributes]

    @app.exception_handler(FTIError)
    async def refuse(request: Request, error: FTIError) -> Response:
        return refusal(error)

    @app.exception_handler(RequestValidationError)
    async def refuse_body(request: Request, error: RequestValidationError) -> Response:
        return refuse_rows(list(error.errors()), known)

    @app.exception_handler(HTTPException)
    async def refuse_path(request: Request, error: HTTPException) -> Response:
        return misdirected(request.scope, error)

    @app.exception_handler(ClientDisconnect)
    async def nobody_listens(request: Request, error: ClientDisconnect) -> Response:
        return problem("The body was not sent to its end.", 400)
