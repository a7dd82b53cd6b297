"""The gate in the API's documentation: what any path may be refused with, and how to show a key."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from serving.middleware.access import OPEN_PATHS

PROBLEM = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
REFUSALS = {
    "401": "A key is asked for, and none or an unknown one was shown.",
    "403": "The key's role does not suffice.",
    "408": "The request was not there and answered in time.",
    "429": "The caller asks more often than is allowed; `Retry-After` says when to ask again.",
    "503": "It cannot be answered now.",
}
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def document_gate(app: FastAPI, *, asks_for_keys: bool) -> None:
    """Add to the app's OpenAPI document what its gate does."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _add(describe(), asks_for_keys)
        return describe()

    app.openapi = openapi  # type: ignore[method-assign]


def _add(document: dict[str, Any], asks_for_keys: bool) -> None:
    for path, operations in document["paths"].items():
        if path in OPEN_PATHS:
            continue
        for operation in operations.values():
            for status, meaning in REFUSALS.items():
                refusal = {"description": meaning, "content": PROBLEM}
                operation["responses"].setdefault(status, refusal)
            if asks_for_keys:
                operation["security"] = [{name: []} for name in SCHEMES]
    if asks_for_keys:
        document.setdefault("components", {})["securitySchemes"] = SCHEMES
