"""A FastAPI route for one large JSON body that is read, checked and answered in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from serving.answers import invalid
from serving.errors import BodyTooLarge, TooManyAtOnce
from serving.routes.bulk_body import MOST_PROBLEMS, BadBody, RowsBody
from serving.routes.json_route import NOT_JSON
from serving.routes.request_schema import explain

LARGEST_BODY_BYTES = 16 * 1024 * 1024


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
    route.at_once = at_once
    if convert is not None:
        route.rows.convert = convert


class BulkRoute(APIRoute):
    """A route whose endpoint is an ordinary function of one validated list of rows.

    As in `JsonRoute` dependencies are not resolved; but all work is done in a thread, row by row,
    with the event loop free for others.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        [body] = self.dependant.body_params
        self.at_once = 1
        self._running = 0
        self._schema: type[BaseModel] = body.field_info.annotation  # type: ignore[assignment]
        self.rows = _rows_body(self._schema)
        self._known = [f.alias or name for name, f in self.rows.row.model_fields.items()]
        self.app = self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        content = await _content(request)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            raise RequestValidationError([NOT_JSON | {"input": content[:MOST_PROBLEMS]}])
        if self._running >= self.at_once:
            raise TooManyAtOnce(
                f"{self._running} requests to {self.path} are being answered, and no more at "
                "once. Try again in a moment."
            )
        self._running += 1
        work = asyncio.ensure_future(asyncio.to_thread(self._work, content))
        work.add_done_callback(self._ended)
        # A request may be given up; its thread goes on, and counts until it ends.
        response = await asyncio.shield(work)
        await response(scope, receive, send)

    def _ended(self, work: asyncio.Task[Response]) -> None:
        self._running -= 1
        if not work.cancelled():
            work.exception()  # nobody may be waiting any more: that is no defect

    def _work(self, content: bytes) -> Response:
        try:
            rows = self.rows.read(content)
        except BadBody as error:
            return refused(error.errors, self._known)
        body = self._schema.model_construct(None, **{self.rows.name: rows})
        response: Response = self.endpoint(body)
        return response


async def _content(request: Request) -> bytes:
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > LARGEST_BODY_BYTES:
            raise BodyTooLarge(
                f"The body has more than {LARGEST_BODY_BYTES} bytes. Send less at once."
            )
    return bytes(content)


def refused(errors: list[Any], known: list[str]) -> Response:
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


def _rows_body(schema: type[BaseModel]) -> RowsBody:
    [(name, field)] = schema.model_fields.items()
    [row] = field.annotation.__args__  # type: ignore[union-attr]
    [most] = [limit.max_length for limit in field.metadata if hasattr(limit, "max_length")]
    return RowsBody(name, row, most)
