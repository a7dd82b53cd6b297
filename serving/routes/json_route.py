"""A FastAPI route for one JSON body, without the work that such a route does not need."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from serving.errors import BodyTooLarge

NOT_JSON = {
    "type": "media_type",
    "loc": (),
    "msg": "expected a JSON object, sent with Content-Type: application/json",
}
SHOWN_BYTES = 500
"""Of a body that is no JSON; a message shows fewer."""
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
        try:
            body = self._read(content)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False)
            raise RequestValidationError(problems) from None
        answer = await self._endpoint(body)
        if isinstance(answer, bytes):
            headers = [JSON_TYPE, (b"content-length", b"%d" % len(answer))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": answer})
        else:
            await answer(scope, receive, send)


async def read_json(scope: Scope, receive: Receive, largest_bytes: int) -> bytes:
    """Read the whole body of a request that says that it sends JSON.

    Raises
    ------
    BodyTooLarge
        If it is longer than allowed.
    RequestValidationError
        If its content type is another one.
    ClientDisconnect
        If the caller leaves before its end.
    """
    parts: list[bytes] = []
    size, is_whole = 0, False
    while not is_whole:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > largest_bytes:
            raise BodyTooLarge(f"The body has more than {largest_bytes} bytes. Send less at once.")
        is_whole = not message.get("more_body", False)
    content = b"".join(parts)
    if not _is_json(scope):
        raise RequestValidationError([NOT_JSON | {"input": content[:SHOWN_BYTES]}])
    return content


def _is_json(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"content-type":
            if value == b"application/json":
                return True
            kind = value.partition(b";")[0].strip().lower()
            return bool(kind == b"application/json" or kind.endswith(b"+json"))
    return False
