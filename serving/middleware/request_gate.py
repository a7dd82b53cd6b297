"""What every request passes on its way in and out: one layer, as each costs all of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Collection
from dataclasses import dataclass

from fastapi import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.answers import RETRY_AFTER_S, json_response
from serving.metrics.metrics import Metrics
from serving.middleware.access import ADMIN_PATHS, OPEN_PATHS, Headers, KeyRing, key_in
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
SAFE_PAGE: RawHeaders = (*_ALWAYS, (b"referrer-policy", b"no-referrer"))
SAFE: RawHeaders = (
    *_ALWAYS,
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
PAGES = frozenset({"/docs", "/redoc", "/docs/oauth2-redirect"})
"""Pages for people, which load scripts."""
NEVER_FULL = OPEN_PATHS | {"/metrics"}
CLOSE = (b"connection", b"close")
REALM = 'Bearer realm="fti"'


@dataclass(frozen=True)
class Rules:
    """Who may pass.

    Parameters
    ----------
    keys
        Whom to let in.
    rate_limit
        How much each of them may ask; None for as much as they like.
    traffic
        How much at once.
    """

    keys: KeyRing
    rate_limit: RateLimit | None
    traffic: Traffic


class Gate:
    """Lets requests in or refuses them, names each, and counts and logs what came of it.

    Parameters
    ----------
    rules
        Who may pass.
    metrics
        Counts answers by path and status.
    access_log
        Keeps what somebody may ask about.
    paths
        Those that are counted by name; all others count as one.
    """

    def __init__(
        self,
        app: ASGIApp,
        rules: Rules,
        metrics: Metrics,
        access_log: AccessLog,
        paths: Collection[str],
    ) -> None:
        self.app = app
        self.rules = rules
        self.traffic = rules.traffic
        self.metrics = metrics
        self.access_log = access_log
        self.paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it here."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        visit = _Visit(scope, send, self.traffic.is_draining)
        refusal = self._refusal(visit, scope["path"])
        app = self.app if refusal is None else refusal
        task = asyncio.current_task()
        self.traffic.began[task] = visit.began_s
        try:
            await app(scope, receive, visit.send)
        except asyncio.CancelledError:
            if visit.status or not self.traffic.was_overdue(task):
                raise
            await _overdue(self.traffic.limit_s)(scope, receive, visit.send)
        except Exception as error:
            logger.error("a defect in %s %s", scope["method"], scope["path"], exc_info=error)
            if visit.status:
                raise
            await _defect()(scope, receive, visit.send)
        finally:
            del self.traffic.began[task]
            self._note(visit, scope)

    def _refusal(self, visit: _Visit, path: str) -> Response | None:
        if path in OPEN_PATHS:
            is_stopping = self.traffic.is_draining and path == "/ready"
            return json_response({"error": "The API is stopping."}, 503) if is_stopping else None
        if self.rules.keys.holders:
            refusal = self._refused_key(visit, path)
            if refusal is not None:
                return refusal
        if self.rules.rate_limit is not None:
            waits = self.rules.rate_limit.wait_s(visit.caller, visit.began_s)
            if waits:
                return self._refused("rate", _too_often(visit.caller, waits))
        is_full = len(self.traffic.began) >= self.traffic.max_in_flight
        if is_full and path not in NEVER_FULL:
            return self._refused("overload", _overloaded(self.traffic.max_in_flight))
        return None

    def _refused_key(self, visit: _Visit, path: str) -> Response | None:
        key = key_in(visit.headers)
        if key is None:
            return self._refused("no_key", _unauthorized("This API asks for a key.", REALM))
        holder = self.rules.keys.holder(key)
        if holder is None:
            challenge = f'{REALM}, error="invalid_token"'
            return self._refused("key", _unauthorized("The key is not known here.", challenge))
        visit.caller = holder.name
        if not holder.may_ask(path):
            return self._refused("role", _forbidden(holder.name))
        return None

    def _refused(self, reason: str, response: Response) -> Response:
        self.metrics.refuse(reason)
        return response

    def _note(self, visit: _Visit, scope: Scope) -> None:
        ended_s = time.perf_counter()
        duration_s, path = ended_s - visit.began_s, scope["path"]
        if self.access_log.deserves(visit.status, duration_s):
            method, status = scope["method"], visit.status
            self.access_log.write(method, path, status, duration_s, visit.caller, ended_s)
        if path not in self.paths:
            path = getattr(scope.get("route"), "path", "other")
        self.metrics.count(path, visit.status, duration_s)


class _Visit:
    """One request as the gate sees it; `send` is what the app answers with."""

    __slots__ = ("_identity", "_is_last", "_send", "began_s", "caller", "headers", "path", "status")

    def __init__(self, scope: Scope, send: Send, is_last: bool) -> None:
        self.began_s = time.perf_counter()
        self.headers: Headers = dict(scope["headers"])
        self.path: str = scope["path"]
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
            safe = SAFE_PAGE if self.path in PAGES else SAFE
            headers = [*message["headers"], *safe, (b"x-request-id", self._identity)]
            if self._is_last:
                headers.append(CLOSE)
            message["headers"] = headers
        return self._send(message)


def _unauthorized(reason: str, challenge: str) -> Response:
    hint = "Send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'."
    return json_response({"error": f"{reason} {hint}"}, 401, {"WWW-Authenticate": challenge})


def _forbidden(name: str) -> Response:
    paths = ", ".join(f"{path}…" if path.endswith("/") else path for path in ADMIN_PATHS)
    return json_response(
        {"error": f"The key '{name}' may predict; {paths} need one with the role admin."},
        403,
        {"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="admin"'},
    )


def _too_often(caller: str, waits_s: int) -> Response:
    return json_response(
        {"error": f"'{caller}' asks more often than is allowed. Ask again in {waits_s} s."},
        429,
        {"Retry-After": str(waits_s)},
    )


def _overloaded(max_in_flight: int) -> Response:
    return json_response(
        {"error": f"{max_in_flight} requests are being answered already. Ask again in a second."},
        503,
        {"Retry-After": str(RETRY_AFTER_S)},
    )


def _defect() -> Response:
    return json_response({"error": "The API failed; its log says where. Try again."}, 503)


def _overdue(limit_s: float) -> Response:
    return json_response(
        {"error": f"The request was not there and answered within {limit_s:g} s. Send it faster."},
        408,
        {"Connection": "close"},
    )
