"""A FastAPI route for one large JSON body that is read, checked and answered in a thread.

The body is read row by row: no single step of it keeps other threads waiting for long.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from fastapi import FastAPI, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.types import Receive, Scope, Send

from infrastructure.work import WorkPool, checkpoint
from serving.answers import invalid
from serving.routes.clean_body import CleanBody
from serving.routes.json_route import read_json
from serving.routes.request_schema import explain

LARGEST_BODY_BYTES = 16 * 1024 * 1024
ROWS_BETWEEN = 64
"""Rows that are read before it is asked whether anybody waits still: a millisecond."""
MOST_PROBLEMS = 100
"""More are not looked for: whoever sends so many knows enough."""
SPACE = r"[ \t\r\n]*"
NEXT = re.compile(f"{SPACE},{SPACE}")
END = re.compile(rf"{SPACE}\]{SPACE}\}}{SPACE}\Z")


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
    if convert is not None:
        route.rows.convert = convert


class BulkRoute(APIRoute):
    """A route whose endpoint is an ordinary function of one validated list of rows.

    As in `JsonRoute` dependencies are not resolved; but all work is done in a thread, row by row,
    with the event loop free for others.
    """

    pool: WorkPool

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
        content = await read_json(scope, receive, LARGEST_BODY_BYTES)
        rows = max(1, content.count(b"{") - 1)  # what they are written in is one more
        response = await self.pool.run_sized(rows, self._work, content)
        await response(scope, receive, send)

    def _work(self, content: bytes) -> Response:
        try:
            rows = self.rows.read(content)
        except BadBody as error:
            return refuse_rows(error.errors, self._known)
        body = self._schema.model_construct(None, **{self.rows.name: rows})
        response: Response = self.endpoint(body)
        return response


class BadBody(Exception):
    """A body cannot be used; ``errors`` has the form in which pydantic lists them."""

    def __init__(self, errors: list[Any]) -> None:
        super().__init__(errors)
        self.errors = errors


class RowsBody:
    """Reads ``{"name": [row, …]}``; a single row may come without a list around it.

    Parameters
    ----------
    name
        What the list is called.
    row
        The schema of a row.
    most
        How many there may be.
    """

    convert: Callable[[Any], Any] = staticmethod(lambda row: row)
    """What becomes of a validated row, at once: what was read is not kept."""

    def __init__(self, name: str, row: type[CleanBody], most: int) -> None:
        self.name = name
        self.row = row
        self.most = most
        self._start = re.compile(rf'{SPACE}\{{{SPACE}"{name}"{SPACE}:{SPACE}\[{SPACE}')

    def read(self, content: bytes) -> list[Any]:
        """Give the validated rows.

        Raises
        ------
        BadBody
            If it is no such JSON, or some rows cannot be used.
        """
        rows: list[Any] = []
        errors: list[Any] = []
        for place, given in enumerate(self._split(content)):
            if place % ROWS_BETWEEN == 0:
                checkpoint()
            if place == self.most:
                raise BadBody([self._error(f"expected at most {self.most} rows", "more")])
            try:
                rows.append(self.convert(self.row.read(given)))
            except ValidationError as error:
                found = error.errors(include_url=False, include_context=False)
                errors += [{**each, "loc": (self.name, place, *each["loc"])} for each in found]
                if len(errors) >= MOST_PROBLEMS:
                    break
        if errors:
            raise BadBody(errors)
        return rows

    def _split(self, content: bytes) -> Iterator[Any]:
        try:
            text = content.decode()
            start = self._start.match(text)
            if start is None:
                yield self._single(text)
                return
            place = start.end()
            while True:
                row, place = DECODER.raw_decode(text, place)
                yield row
                if END.match(text, place):
                    return
                comma = NEXT.match(text, place)
                if comma is None:
                    raise ValueError(f"at character {place} comes neither another row nor the end")
                place = comma.end()
        except (ValueError, RecursionError) as error:
            what = f'expected {{"{self.name}": [row, …]}}: {error}'
            raise BadBody([self._error(what, content[:MOST_PROBLEMS])]) from error

    def _single(self, text: str) -> Any:
        row = DECODER.decode(text)
        if not isinstance(row, dict) or not row or self.name in row:
            raise ValueError("there is no such list, or something beside it")
        return row

    def _error(self, message: str, given: object) -> dict[str, Any]:
        return {"type": "rows", "loc": (self.name,), "msg": message, "input": given}


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


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


DECODER = json.JSONDecoder(parse_constant=_no_number)
