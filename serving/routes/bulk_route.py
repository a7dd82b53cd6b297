"""A FastAPI route for one large JSON body that is read, checked and answered in a thread.

The body is read row by row: no single step of it keeps other threads waiting for long.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from infrastructure.work import Room, WorkPool
from serving.answers import invalid
from serving.bodies.content import (
    accepts_gzip,
    expected_bytes,
    inflate,
    is_gzip,
    read_body,
    require_json,
)
from serving.bodies.request_schema import explain
from serving.bodies.strict_json import MOST_PROBLEMS, BadBody, RowsBody
from serving.middleware.access import Headers
from serving.middleware.request_gate import HEADERS

LARGEST_BODY_BYTES = 16 * 1024 * 1024
SMALL_BODY_BYTES = 64 * 1024
"""As much as a body of one prediction: it waits for no room."""
LEAST_GZIP_BYTES = 16 * 1024
"""A shorter answer is not worth compressing."""
GZIP_LEVEL = 1
"""The quickest: batches of predictions become a fifth; slower ones gain little."""


def add_bulk_path(
    app: FastAPI,
    path: str,
    endpoint: Callable[..., Response],
    pool: WorkPool,
    convert: Callable[[Any], Any] | None = None,
    **options: Any,
) -> None:
    """Add a path whose requests are answered in the threads of a pool, by their rows.

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
    route.pool = pool
    route.bodies = app.state.bodies
    if convert is not None:
        route.rows.convert = convert


class BulkRoute(APIRoute):
    """A route whose endpoint is an ordinary function of one validated list of rows.

    As in `JsonRoute` dependencies are not resolved; but all work is done in a thread, row by row,
    with the event loop free for others.
    """

    pool: WorkPool
    bodies: Room

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
        size = expected_bytes(headers, LARGEST_BODY_BYTES)
        if size <= SMALL_BODY_BYTES:
            response = await self._do(await read_body(scope, receive, SMALL_BODY_BYTES), headers)
        else:
            await self.bodies.enter(size)
            try:
                content: bytes | bytearray = await read_body(scope, receive, LARGEST_BODY_BYTES)
                if is_gzip(headers):
                    content = await self.pool.run(inflate, content, headers, LARGEST_BODY_BYTES)
                self.bodies.shrink(size - len(content))
                size = len(content)
                response = await self._do(content, headers)
            finally:
                self.bodies.leave(size)
        await response(scope, receive, send)

    async def _do(self, content: bytes | bytearray, headers: Headers) -> Response:
        rows = max(1, content.count(b"{") - 1)  # what they are written in is one more
        return await self.pool.run_sized(rows, self._work, content, headers)

    def _work(self, content: bytes | bytearray, headers: Headers) -> Response:
        try:
            rows = self.rows.read(content)
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
