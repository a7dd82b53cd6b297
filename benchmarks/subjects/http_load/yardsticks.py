"""What the prediction path is measured against: apps that answer a constant.

``python -m benchmarks.subjects.http_load.yardsticks SUBJECT PORT`` runs one, as the API runs:
uvicorn with uvloop and httptools, no access log, the collector frozen.
"""

import gc
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from pydantic import BaseModel, create_model
from starlette.types import Receive, Scope, Send

from feature_store.feature_definitions import MODEL_VIEW

ANSWER: dict[str, Any] = {
    "prediction": "<=50K",
    "probability": 0.12345678806304932,
    "model_version": "income-xgb-v1",
    "latency_ms": 0.321,
    "prediction_id": "0199c0de-0000-7000-8000-000000000000",
    "arm": "champion",
    "missing": [],
    "unseen": [],
    "degraded": False,
    "degraded_reasons": [],
}
NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}


class User(BaseModel):
    """The body of a request by user."""

    user_id: int


@asynccontextmanager
async def _frozen(app: FastAPI) -> AsyncIterator[None]:
    gc.collect()
    gc.freeze()
    yield


def fastapi_constant(body_schema: Any) -> FastAPI:
    """A FastAPI app that takes a body, validates it, and answers a constant."""
    app = FastAPI(lifespan=_frozen, telemetry=NO_TELEMETRY)

    @app.post("/predict")
    async def predict(body: body_schema) -> dict[str, Any]:
        return ANSWER

    return app


def by_user() -> FastAPI:
    """The constant for the body of a request by user."""
    return fastapi_constant(User)


def numbers() -> FastAPI:
    """The constant for as many numbers as a vector has."""
    fields: Any = dict.fromkeys(MODEL_VIEW.schema.names, (float, ...))
    return fastapi_constant(create_model("Numbers", **fields))


def raw_asgi() -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """The limit of the HTTP server: nothing is read, a constant is sent."""
    body = b'{"prediction":"<=50K","probability":0.12345678806304932}'
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    start = {"type": "http.response.start", "status": 200, "headers": headers}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        await send(start)
        await send({"type": "http.response.body", "body": body})

    return app


SUBJECTS: dict[str, Callable[[], Any]] = {
    "constant": by_user,
    "constant_47": numbers,
    "raw_asgi": raw_asgi,
}


def main() -> None:
    """Run one of them until told to stop."""
    subject, port = sys.argv[1], int(sys.argv[2])
    uvicorn.run(
        SUBJECTS[subject](),
        port=port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
