"""``feast serve`` without the long way: planned requests leave as text, other ones as Feast's do.

Feast runs ``load_artifacts`` of a file ``static_artifacts.py`` in the repository when its server
starts; ours is `shorten`. Feast's route goes on answering whatever is not plain: requests that
it has to refuse, permissions, metrics and audit logs, and what is not planned.
"""

from __future__ import annotations

import inspect
from typing import Any

from fastapi import FastAPI
from feast import FeatureService, FeatureStore, metrics
from feast.feature_server import GetOnlineFeaturesRequest
from feast.permissions.security_manager import get_security_manager, is_auth_necessary
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from feature_store.feast_plugin.online_store import PackedOnlineStore
from feature_store.feast_plugin.server.rendering import rendered

PATH = "/get-online-features"


def shorten(app: FastAPI) -> None:
    """Let the server's route of online features answer planned requests itself."""
    for route in app.router.routes:
        if isinstance(route, Route) and route.path == PATH:
            store = inspect.getclosurevars(route.endpoint).nonlocals.get("store")
            if isinstance(store, FeatureStore):
                short = ShortRoute(store, route.handle)
                route.handle = short.handle  # type: ignore[method-assign]


class ShortRoute:
    """Answers what is planned, and hands the rest to Feast's route, body and all.

    Parameters
    ----------
    store
        What the server serves.
    long_way
        Feast's route.
    """

    def __init__(self, store: FeatureStore, long_way: ASGIApp) -> None:
        self._store, self._long_way = store, long_way
        self._services: dict[str, tuple[Any, FeatureService]] = {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request = Request(scope, receive)
        is_json = request.headers.get("content-type", "").startswith("application/json")
        if scope["method"] != "POST" or not is_json or _is_watched(self._store):
            await self._long_way(scope, receive, send)
            return
        body = await request.body()
        answer = await self._answer(body)
        if answer is None:
            await self._long_way(scope, _again(body, receive), send)
        else:
            await answer(scope, receive, send)

    async def _answer(self, body: bytes) -> Response | None:
        """The answer to a request that is planned; None where Feast has to look at it."""
        try:
            asked = GetOnlineFeaturesRequest.model_validate_json(body)
        except ValueError:
            return None
        store, ours = self._store, self._store.provider.online_store
        if not isinstance(ours, PackedOnlineStore):
            return None
        features = self._service(asked.feature_service) or asked.features
        names = asked.full_feature_names, asked.include_feature_view_version_metadata
        request = store.config, features, asked.entities, store.registry, store.project, *names
        planned = ours.planned_request(*request)
        if planned is None or planned[0].has_foreign:
            return None
        text = rendered(await ours.read_planned_async(store.config, *planned))
        return None if text is None else Response(text, media_type=JSONResponse.media_type)

    def _service(self, name: str | None) -> FeatureService | None:
        """A service as the registry has it now; Feast makes it anew from its message each time."""
        if not name:
            return None
        read_at = getattr(self._store.registry, "cached_registry_proto_created", None)
        kept = self._services.get(name)
        if kept is None or kept[0] is not read_at or read_at is None:
            service = self._store.get_feature_service(name, allow_cache=True)
            kept = self._services[name] = read_at, service
        return kept[1]


def _again(body: bytes, receive: Receive) -> Receive:
    """Give a body that has been read once more, and then what comes."""
    given = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def again() -> Message:
        message = next(given, None)
        return await receive() if message is None else message

    return again


def _is_watched(store: FeatureStore) -> bool:
    """Whether somebody counts or logs requests, or has to allow them."""
    flags = metrics._config  # noqa: SLF001 - replaced when counting starts
    counts = flags.request or flags.online_features or flags.audit_logging
    counts = counts or getattr(store.config.mlflow, "enabled", False)
    return bool(counts or is_auth_necessary(get_security_manager()))
