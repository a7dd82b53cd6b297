"""``/docs``: the page on which people read about the API and try it, without anything from outside.

The scripts come from the package ``fastapi-offline``, and the page lies beside them: it needs no
other host, and a browser is told to load from none.
"""

from __future__ import annotations

import asyncio
import gzip
import threading
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request, Response
from pydantic_core import to_json

from serving.bodies.content import accepts_gzip
from serving.middleware.request_gate import HEADERS

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="docs/favicon.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  persistAuthorization: false,
  validatorUrl: null,
});
"""
TYPES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
    "start.js": "text/javascript",
}
_one_at_a_time = threading.Lock()
_assets: dict[str, tuple[bytes, bytes]] = {}
DOCS_PATH = "/docs"
OPENAPI_PATH = "/openapi.json"
PATHS = frozenset({DOCS_PATH, OPENAPI_PATH, *(f"{DOCS_PATH}/{name}" for name in TYPES)})
"""All that the page consists of; nothing of it depends on data or settings of a deployment."""


def add_docs(app: FastAPI) -> None:
    """Add the page, what it loads, and the document that it shows."""
    page = PAGE.format(title=app.title)

    @cache
    def document() -> tuple[bytes, bytes]:
        content = to_json(app.openapi())
        return content, gzip.compress(content)

    @app.get(DOCS_PATH, include_in_schema=False)
    async def show_docs() -> Response:
        return Response(page, media_type="text/html")

    @app.get(f"{DOCS_PATH}/{{name}}", include_in_schema=False)
    async def show_asset(name: str, request: Request) -> Response:
        if name not in TYPES:
            raise HTTPException(404)
        content = _assets.get(name)
        if content is None:
            content = await asyncio.to_thread(_asset, name)
        return _answer(content, TYPES[name], request)

    @app.get(OPENAPI_PATH, include_in_schema=False)
    async def show_document(request: Request) -> Response:
        return _answer(document(), "application/json", request)


def _answer(content: tuple[bytes, bytes], kind: str, request: Request) -> Response:
    """Answer with the plain or the compressed content, as the caller can take it."""
    plain, packed = content
    if not accepts_gzip(request.scope[HEADERS]):
        return Response(plain, media_type=kind)
    headers = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return Response(packed, headers=headers, media_type=kind)


def _asset(name: str) -> tuple[bytes, bytes]:
    """A file as it is, and compressed: by whoever is first, while the others wait."""
    with _one_at_a_time:
        if name not in _assets:
            _assets[name] = _read_asset(name)
        return _assets[name]


def _read_asset(name: str) -> tuple[bytes, bytes]:
    if name == "start.js":
        content = START.encode()
    else:
        spec = find_spec("fastapi_offline")
        assert spec is not None
        assert spec.origin is not None
        content = (Path(spec.origin).parent / "static" / name).read_bytes()
    return content, gzip.compress(content)
