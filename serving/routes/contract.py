"""The OpenAPI document as generators of clients need it: exact numbers, and groups of paths."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from feature_store.definitions.entity import LARGEST_KEY

TAGS = {
    "receipts": (("/predictions/",), "Predictions that were answered: shown, replayed, explained."),
    "predictions": (("/predict",), "Predictions, one or many."),
    "explanations": (("/explain",), "What each feature added to a prediction."),
    "feedback": (("/feedback",), "What came true."),
    "features": (("/features/",), "What is stored about a user."),
    "deployments": (("/model", "/experiment"), "What serves, and what is being tested."),
    "operations": (("/",), "For those who run the API."),
}
"""Of each group how its paths begin, and what it is for; a path is in the first one that fits."""
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def document_contract(app: FastAPI) -> None:
    """Complete the app's OpenAPI document."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        is_new = app.openapi_schema is None
        document = describe()
        if is_new:
            _make_exact(document)
            _add_tags(document)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _make_exact(node: Any) -> None:
    """Write bounds of integers as integers: as floats, as FastAPI keeps them, they are rounded."""
    if isinstance(node, list):
        for each in node:
            _make_exact(each)
    elif isinstance(node, dict):
        if node.get("type") == "integer":
            for bound in BOUNDS:
                if isinstance(node.get(bound), float):
                    node[bound] = max(-LARGEST_KEY, min(int(node[bound]), LARGEST_KEY))
        for each in node.values():
            _make_exact(each)


def _add_tags(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        tag = next(name for name, (starts, _) in TAGS.items() if path.startswith(starts))
        for operation in operations.values():
            operation["tags"] = [tag]
    document["tags"] = [{"name": name, "description": what} for name, (_, what) in TAGS.items()]
