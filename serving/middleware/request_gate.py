"""What every request passes on its way in and out: one layer, as each costs all of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Collection
from typing import Any

from fastapi import FastAPI, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.answers import RETRY_AFTER_S, problem
from serving.metrics.metrics import Metrics
from serving.middleware.access import (
    OPEN_PATHS,
    Headers,
    KeyRing,
    current_caller,
    key_in,
    needed_permission,
)
from serving.middleware.access_log import AccessLog
from serving.middleware.rate_limit import RateLimit
from serving.middleware.request_ids import current, new_request_id, request_id
from serving.middleware.traffic import Traffic

logger = logging.getLogger(__name__)

RawHeaders = tuple[tuple[bytes, bytes], ...]

_ALWAYS: RawHeaders = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)
SAFE_PAGE: RawHeaders = (
    *_ALWAYS,
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    ),
)
"""Of the page for people: it loads what lies beside it, and nothing else."""
SAFE: RawHeaders = (
    *_ALWAYS,
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
HEADERS = "headers_by_name"
"""Where in a scope later parts find the headers; of those sent twice, the last one."""
PAGE_PATH = "/docs"
NEVER_FULL = OPEN_PATHS | {"/metrics"}
CLOSE = (b"connection", b"close")
REALM = 'Bearer realm="fti"'
HOW_TO_SEND = "Send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'."

PROBLEM = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
REFUSALS = {
    "400": "It is no HTTP/1.1, or its body is not what its head says.",
    "401": "A key is asked for, and none or an unknown one was shown.",
    "403": "The key may not do this; `scope` of `WWW-Authenticate` is what it lacks.",
    "408": "The request was not there and answered in time.",
    "429": "The caller asks more often than is allowed; `Retry-After` says when to ask again.",
    "431": "Its headers are too long, or too many.",
    "503": "It cannot be answered now.",
}
"""As the documentation describes them."""
BODY_REFUSALS = {
    "413": "The body is larger than this path takes, or will be when it is decompressed.",
    "415": "The body is no JSON, or is compressed otherwise than by gzip.",
}
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


class RequestGate:
    """Lets requests in or refuses them, names each, and counts and logs what came of it.

    Parameters
    ----------
    keys
        Whom to let in.
    rate_limit
        How much each of them may ask; None for as much as they like.
    traffic
        How much may be asked at once.
    metrics
        Counts answers by path and status.
    access_log
        Logs requests.
    paths
        Those that are counted by name; all others count as one.
    open_paths
        Those that ask for no key.
    root_path
        The prefix under which a proxy shows the API; requests may come with it or without.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: KeyRing,
        rate_limit: RateLimit | None,
        traffic: Traffic,
        metrics: Metrics,
        access_log: AccessLog,
        paths: Collection[str],
        open_paths: Collection[str] = (),
        root_path: str = "",
    ) -> None:
        self.app = app
        self.keys = keys
        self.rate_limit = rate_limit
        self.traffic = traffic
        self.metrics = metrics
        self.access_log = access_log
        self.paths = frozenset(paths)
        self.open_paths = frozenset(open_paths)
        self.root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it here."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self.root_path:
            scope = self._below_root(scope)
        visit = _Visit(scope, send, self.traffic.is_draining, len(self.root_path))
        scope[HEADERS] = visit.headers
        if scope["method"] == "HEAD":  # the HTTP server leaves the body out
            scope = {**scope, "method": "GET"}
        refusal = self._refusal(visit, visit.path)
        app = self.app if refusal is None else refusal
        task = asyncio.current_task()
        self.traffic.began[task] = visit.began_s
        try:
            await app(scope, receive, visit.send)
        except asyncio.CancelledError:
            late = None if visit.status else self.traffic.why_cancelled(task)
            if late is None:
                raise
            await problem(late, 408, {"Connection": "close"})(scope, receive, visit.send)
        except Exception as error:
            logger.error("a defect in %s %s", scope["method"], scope["path"], exc_info=error)
            if visit.status:
                raise
            defect = problem("The API failed; its log says where. Try again.", 503)
            await defect(scope, receive, visit.send)
        finally:
            del self.traffic.began[task]
            self._note(visit, scope)

    def _below_root(self, scope: Scope) -> Scope:
        """Give each path the prefix, once: keys are checked for the very path that is answered."""
        path: str = scope["path"]
        if path != self.root_path and not path.startswith(f"{self.root_path}/"):
            path = self.root_path + path
        return {**scope, "path": path, "root_path": self.root_path}

    def _refusal(self, visit: _Visit, path: str) -> Response | None:
        if path in OPEN_PATHS:
            is_stopping = self.traffic.is_draining and path == "/ready"
            return problem("The API is stopping.", 503) if is_stopping else None
        if self.keys.holders and path not in self.open_paths:
            refusal = self._refuse_key(visit, path)
            if refusal is not None:
                return refusal
        if self.rate_limit is not None:
            waits_s = self.rate_limit.wait_s(visit.caller, visit.began_s)
            if waits_s:
                message = (
                    f"'{visit.caller}' asks more often than is allowed. Ask again in {waits_s} s."
                )
                return self._refuse("rate", message, 429, {"Retry-After": str(waits_s)})
        most = self.traffic.max_in_flight
        is_full = len(self.traffic.began) >= most and path not in NEVER_FULL
        if is_full and not self.traffic.make_room():
            message = f"{most} requests are being answered already. Ask again in a second."
            return self._refuse("overload", message, 503, {"Retry-After": str(RETRY_AFTER_S)})
        return None

    def _refuse_key(self, visit: _Visit, path: str) -> Response | None:
        key = key_in(visit.headers)
        if key is None:
            message = f"This API asks for a key. {HOW_TO_SEND}"
            return self._refuse("no_key", message, 401, {"WWW-Authenticate": REALM})
        holder = self.keys.holder(key)
        if holder is None:
            message = f"The key is not known here. {HOW_TO_SEND}"
            challenge = f'{REALM}, error="invalid_token"'
            return self._refuse("key", message, 401, {"WWW-Authenticate": challenge})
        caller = holder.caller
        visit.caller = caller.name or visit.caller
        current_caller.set(caller)
        needed = needed_permission(path)
        if needed is None or caller.may(needed):
            return None
        message = (
            f"The key '{caller.name}' may {', '.join(sorted(caller.permissions))}; {path} needs "
            f"one that may {needed}."
        )
        challenge = f'{REALM}, error="insufficient_scope", scope="{needed}"'
        return self._refuse("role", message, 403, {"WWW-Authenticate": challenge})

    def _refuse(self, reason: str, message: str, status: int, headers: dict[str, str]) -> Response:
        self.metrics.refuse(reason)
        return problem(message, status, headers)

    def _note(self, visit: _Visit, scope: Scope) -> None:
        ended_s = time.perf_counter()
        duration_s, path = ended_s - visit.began_s, visit.path
        if self.access_log.deserves(visit.status, duration_s):
            method, status = scope["method"], visit.status
            self.access_log.write(method, path, status, duration_s, visit.caller, ended_s)
        if path not in self.paths:
            path = getattr(scope.get("route"), "path", "other")
        self.metrics.count(path, visit.status, duration_s)


class _Visit:
    """One request as the gate sees it; `send` is what the app answers with."""

    __slots__ = ("_identity", "_is_last", "_send", "began_s", "caller", "headers", "path", "status")

    def __init__(self, scope: Scope, send: Send, is_last: bool, root_length: int) -> None:
        self.began_s = time.perf_counter()
        self.headers: Headers = dict(scope["headers"])
        self.path: str = scope["path"][root_length:]
        self.status = 0
        client = scope["client"]
        self.caller: str = client[0] if client else "unknown"
        given = self.headers.get(b"x-request-id")
        self._identity = new_request_id() if given is None else request_id(given)
        current.set(self._identity)
        self._send = send
        self._is_last = is_last

    def send(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            safe = SAFE_PAGE if self.path == PAGE_PATH else SAFE
            headers = [*message["headers"], *safe, (b"x-request-id", self._identity)]
            if self._is_last:
                headers.append(CLOSE)
            message["headers"] = headers
        return self._send(message)


def document_gate(app: FastAPI, *, asks_for_keys: bool) -> None:
    """Add to the app's OpenAPI document why any path may refuse, and how to show a key."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _add_refusals(describe(), asks_for_keys)
        return describe()

    app.openapi = openapi  # type: ignore[method-assign]


def _add_refusals(document: dict[str, Any], asks_for_keys: bool) -> None:
    for path, operations in document["paths"].items():
        if path in OPEN_PATHS:
            continue
        for operation in operations.values():
            of_body = BODY_REFUSALS if "requestBody" in operation else {}
            for status, meaning in (REFUSALS | of_body).items():
                refusal = {"description": meaning, "content": PROBLEM}
                operation["responses"].setdefault(status, refusal)
            if asks_for_keys:
                operation["security"] = [{name: []} for name in SCHEMES]
    document.setdefault("components", {})["securitySchemes"] = SCHEMES
