"""The API in the process of the tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from configs.settings import Settings
from feature_store.definitions.view import FeatureView
from feature_store.feature_definitions import MODEL_VIEW
from serving.api import create_app
from serving.connect import prediction_service
from serving.service import PredictionService


@dataclass(frozen=True)
class Api:
    """The app in this very process: what is sent at once arrives in one turn of the loop."""

    client: httpx.AsyncClient
    service: PredictionService

    async def ask(self, body: dict[str, Any]) -> httpx.Response:
        return await self.client.post("/predict", json=body)

    async def together(self, bodies: Sequence[dict[str, Any]]) -> list[httpx.Response]:
        return await asyncio.gather(*[self.ask(body) for body in bodies])


@asynccontextmanager
async def api_of(settings: Settings, view: FeatureView = MODEL_VIEW) -> AsyncIterator[Api]:
    service = prediction_service(settings, view)
    app = create_app(service, view)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://api") as client,
    ):
        yield Api(client, service)


def told(answer: httpx.Response) -> dict[str, Any]:
    """What an answer says, without what differs from one to the next."""
    assert answer.status_code == 200, answer.text
    own = {"prediction_id", "latency_ms"}
    return {name: value for name, value in answer.json().items() if name not in own}
