"""A FastAPI route for one JSON body, without the work that such a route does not need."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from serving.bodies.content import read_json
from serving.bodies.strict_json import require_few, require_unique

MANY_COLONS = 100
"""More than any such body has, but for those in texts: it is looked at before it is validated."""
JSON_TYPE = (b"content-type", b"application/json")


class JsonRoute(APIRoute):
    """A route whose endpoint takes one validated body and gives JSON.

    It is documented, matched and guarded as any other, but its body is parsed and validated in
    one pass by pydantic: what is no JSON (NaN, halves of characters, bytes that are no UTF-8) is
    refused like every other bad body, and a request costs half as much. The endpoint takes
    nothing but the body, dependencies are not resolved, and it gives JSON in bytes or a response.
    """

    largest_body_bytes = 64 * 1024

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        [body] = self.dependant.body_params
        schema: Any = body.field_info.annotation
        self._read: Callable[[bytes], Any] = schema.read_json
        self._endpoint: Callable[[Any], Coroutine[Any, Any, bytes | Response]] = self.endpoint
        self.app = self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        content = await read_json(scope, receive, self.largest_body_bytes)
        colons = content.count(b":")
        if colons > MANY_COLONS:
            require_few(content)
        try:
            body = self._read(content)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False)
            raise RequestValidationError(problems) from None
        # Each pair of an object has a colon: as many as fields that are set leave no second one.
        if colons != len(body.model_fields_set):
            require_unique(content)
        answer = await self._endpoint(body)
        if isinstance(answer, bytes):
            headers = [JSON_TYPE, (b"content-length", b"%d" % len(answer))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": answer})
        else:
            await answer(scope, receive, send)
