"""The HTTP face of the predictor: FastAPI, in which every failure is an answer."""

# Annotations are values here: FastAPI reads the type of a body that is made at run time.
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from pydantic_core import to_json
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from configs.errors import FTIError
from feature_store.feature_view import FeatureView
from serving.answers import Alive, Ready, documented, invalid, json_response, refusal
from serving.collector import GarbagePauses
from serving.json_route import JsonRoute
from serving.metrics import Metrics
from serving.predictor import Answer
from serving.request_schema import explain, request_schema, to_request
from serving.service import PredictionService

logger = logging.getLogger(__name__)

NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
"""Looking for an OpenTelemetry provider costs each request 5 us; metrics are our own."""
PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def create_app(service: PredictionService, view: FeatureView) -> FastAPI:
    """Make the app; its parts start and stop with it.

    Parameters
    ----------
    service
        What answers.
    view
        Whose raw columns and key a request may name.
    """
    pauses = GarbagePauses()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        pauses.shorten()
        yield
        pauses.stop()
        await service.stop()

    app = FastAPI(
        title="FTI predictions",
        description="Predicts from a user's stored features, from raw attributes, or from both.",
        version="1",
        lifespan=lifespan,
        telemetry=NO_TELEMETRY,
    )
    metrics = Metrics()
    for name, (meaning, value) in service.watched().items():
        metrics.watch(name, meaning, value)
    metrics.watch(
        "fti_longest_garbage_collection_seconds",
        "Longest pause of the garbage collector since the start.",
        lambda: pauses.longest_s,
    )
    _add_predict(app, service, view, metrics)
    _add_probes(app, service, metrics)
    _add_refusals(app, view)
    app.add_middleware(
        CountRequests, metrics=metrics, paths={getattr(route, "path", "") for route in app.routes}
    )
    return app


def _add_predict(
    app: FastAPI, service: PredictionService, view: FeatureView, metrics: Metrics
) -> None:
    body_schema = request_schema(view)
    app.router.route_class = JsonRoute

    @app.post("/predict", response_model=Answer, responses=documented(404, 422, 503))
    async def predict(body: body_schema) -> bytes:  # type: ignore[valid-type]
        """Predict; a receipt of the prediction is kept under its ``prediction_id``."""
        answer = await service.predictor.predict(to_request(body, view.entity))
        metrics.observe(answer)
        return to_json(vars(answer))

    # Routes are tried in order, and this one is asked for most.
    app.router.routes.insert(0, app.router.routes.pop())


def _add_probes(app: FastAPI, service: PredictionService, metrics: Metrics) -> None:
    app.router.route_class = APIRoute

    @app.get("/health")
    async def health() -> Alive:
        """Tell that the process is alive; depends on nothing else."""
        return Alive(status="alive")

    @app.get("/ready", response_model=Ready, responses=documented(503))
    async def ready() -> Response:
        """Tell whether predictions can be answered, and by which models."""
        problem = service.problem()
        if problem is not None:
            return json_response({"error": problem}, 503)
        live = service.watcher.require()
        models = {arm.arm.name: arm.arm.label for arm in live.arms}
        generation = live.deployment.generation
        return json_response({"status": "ready", "generation": generation, "models": models})

    @app.get("/metrics", response_class=Response)
    async def show_metrics() -> Response:
        """Show the metrics in Prometheus's text format."""
        return Response(metrics.text(), headers={"Content-Type": PROMETHEUS_TEXT})


def _add_refusals(app: FastAPI, view: FeatureView) -> None:
    known = [view.entity, "unit_id", *[feature.name for feature in view.raw_features]]

    @app.exception_handler(FTIError)
    async def refuse(request: Request, error: FTIError) -> Response:
        return refusal(error)

    @app.exception_handler(RequestValidationError)
    async def refuse_body(request: Request, error: RequestValidationError) -> Response:
        return invalid(list(explain(error.errors(), known)))

    @app.exception_handler(ClientDisconnect)
    async def nobody_listens(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)

    @app.exception_handler(Exception)
    async def report_defect(request: Request, error: Exception) -> Response:
        logger.error("a defect in %s %s", request.method, request.url.path, exc_info=error)
        return json_response({"error": "The API failed; its log says where. Try again."}, 503)


class CountRequests:
    """Counts answers by path and status; unknown paths count as one."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: Collection[str]) -> None:
        self.app = app
        self.metrics = metrics
        self.paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and look at the status of its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self.paths else "other"

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.metrics.count(path, message["status"])
            await send(message)

        await self.app(scope, receive, counted)
