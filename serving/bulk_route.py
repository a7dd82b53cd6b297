"""A FastAPI route for one large JSON body that is read, checked and answered in a thread."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from serving.json_route import NOT_JSON
from serving.refused_rows import field_names, refused

LARGEST_BODY_BYTES = 16 * 1024 * 1024


class BulkRoute(APIRoute):
    """A route whose endpoint is an ordinary function of one validated body.

    As in `JsonRoute` the body is parsed and validated by pydantic in one pass and dependencies
    are not resolved; but all that happens in a thread, with the event loop free for others.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        [body] = self.dependant.body_params
        self._schema: Any = body.field_info.annotation
        self._known = field_names(self._schema)
        self.app = RequestBodyLimitMiddleware(self._answer, LARGEST_BODY_BYTES)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        content = await request.body()
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            raise RequestValidationError([NOT_JSON | {"input": content}])
        response = await asyncio.to_thread(self._work, content)
        await response(scope, receive, send)

    def _work(self, content: bytes) -> Response:
        try:
            body = self._schema.__pydantic_validator__.validate_json(content)
        except ValidationError as error:
            return refused(error.errors(include_url=False, include_context=False), self._known)
        response: Response = self.endpoint(body)
        return response
