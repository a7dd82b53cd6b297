"""A FastAPI route for one large JSON body that is read, checked and answered in a thread.

The body is read row by row: no single step of it keeps other threads waiting for long.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import FastAPI, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from serving.answers import invalid
from serving.errors import TooManyAtOnce
from serving.middleware.access import Headers
from serving.middleware.body_budget import BodyBudget
from serving.middleware.request_gate import HEADERS
from serving.routes.bodies import (
    accepts_gzip,
    expected_bytes,
    inflate,
    is_gzip,
    read_body,
    require_json,
)
from serving.routes.request_schema import explain
from serving.routes.strict_json import MOST_PROBLEMS, BadBody, RowsBody

T = TypeVar("T")

LARGEST_BODY_BYTES = 16 * 1024 * 1024
LEAST_GZIP_BYTES = 16 * 1024
"""A shorter answer is not worth compressing."""
GZIP_LEVEL = 1
"""The quickest: batches of predictions become a fifth; slower ones gain little."""


def add_bulk_path(
    app: FastAPI,
    path: str,
    endpoint: Callable[..., Response],
    at_once: int,
    convert: Callable[[Any], Any] | None = None,
    **options: Any,
) -> None:
    """Add a path whose requests are answered in threads, only so many ``at_once``.

    Parameters
    ----------
    endpoint
        Takes a body of one list of rows.
    convert
        Makes of each validated row what the endpoint takes; None leaves it as it is.
    """
    app.router.add_api_route(
        path, endpoint, methods=["POST"], route_class_override=BulkRoute, **options
    )
    route = app.router.routes[-1]
    assert isinstance(route, BulkRoute)
    route.threads = FewThreads(at_once, f"requests to {path} are being answered")
    route.bodies = app.state.bodies
    if convert is not None:
        route.rows.convert = convert


class BulkRoute(APIRoute):
    """A route whose endpoint is an ordinary function of one validated list of rows.

    As in `JsonRoute` dependencies are not resolved; but all work is done in a thread, row by row,
    with the event loop free for others.
    """

    threads: FewThreads
    bodies: BodyBudget

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        [body] = self.dependant.body_params
        self._schema: type[BaseModel] = body.field_info.annotation  # type: ignore[assignment]
        [(name, field)] = self._schema.model_fields.items()
        [row] = field.annotation.__args__  # type: ignore[union-attr]
        [most] = [limit.max_length for limit in field.metadata if hasattr(limit, "max_length")]
        self.rows = RowsBody(name, row, most)
        self._known = [f.alias or name for name, f in row.model_fields.items()]
        self.app = self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = scope[HEADERS]
        require_json(headers, LARGEST_BODY_BYTES)
        self.threads.require_room()
        held = await self.bodies.hold(expected_bytes(headers, LARGEST_BODY_BYTES))
        try:
            content = await read_body(scope, receive, LARGEST_BODY_BYTES)
            if not is_gzip(headers):
                held.shrink(len(content))
            work = self.threads.start(self._work, content, headers)
        except BaseException:
            held.release()
            raise
        work.add_done_callback(lambda _: held.release())
        response = await asyncio.shield(work)
        await response(scope, receive, send)

    def _work(self, content: bytearray, headers: Headers) -> Response:
        try:
            rows = self.rows.read(inflate(content, headers, LARGEST_BODY_BYTES))
        except BadBody as error:
            return refuse_rows(error.errors, self._known)
        body = self._schema.model_construct(None, **{self.rows.name: rows})
        response: Response = self.endpoint(body)
        if len(response.body) >= LEAST_GZIP_BYTES and accepts_gzip(headers):
            compress(response)
        return response


def compress(response: Response) -> None:
    """Compress an answer."""
    response.body = gzip.compress(response.body, GZIP_LEVEL)
    response.headers["Content-Length"] = str(len(response.body))
    response.headers["Content-Encoding"] = "gzip"
    response.headers["Vary"] = "Accept-Encoding"


class FewThreads:
    """Work in threads, only so much of it at once.

    Parameters
    ----------
    most
        How much.
    work
        What is being done, for the message to whoever comes too many.
    """

    def __init__(self, most: int, work: str) -> None:
        self.most = most
        self.work = work
        self._running = 0

    def start(self, action: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        """Begin some work; it goes on, and counts until it ends, when nobody waits any more.

        Raises
        ------
        TooManyAtOnce
            If as much is being done already.
        """
        self.require_room()
        self._running += 1
        task = asyncio.ensure_future(asyncio.to_thread(action, *arguments))
        task.add_done_callback(self._end)
        return task

    def require_room(self) -> None:
        """Raise `TooManyAtOnce` if as much is being done already."""
        if self._running >= self.most:
            raise TooManyAtOnce(
                f"{self.most} {self.work}, and no more at once. Try again in a moment."
            )

    def _end(self, task: asyncio.Future[Any]) -> None:
        self._running -= 1
        if not task.cancelled():
            task.exception()  # nobody may be waiting any more: that is no defect


def refuse_rows(errors: list[Any], known: list[str]) -> Response:
    """Answer 422 with what is wrong where, as pydantic lists errors.

    Parameters
    ----------
    known
        The fields that a row may have.
    """
    problems = list(explain(errors[:MOST_PROBLEMS], known))
    if len(errors) >= MOST_PROBLEMS:
        more = {"field": "body", "value": "more problems"}
        problems.append(more | {"expected": f"see the first {MOST_PROBLEMS}"})
    return invalid(problems)
