"""How the documentation describes answers and refusals: with an example each."""

from __future__ import annotations

from typing import Any

from serving.answers import InvalidBody, Problem

EXAMPLE_ID = "018bcfe5-6800-7c0e-a3b1-2f4b7c6d9e01"
"""Of a prediction."""
ID_PATTERN = (
    "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}$"
)
"""Of the ids of predictions, in the document: UUIDs of version 7."""
REFUSALS = {
    404: "There is no such thing; the message says of what.",
    413: "The body is larger than this path takes.",
    422: "Something in the request cannot be used; each place is named.",
    503: "It cannot be answered now; `Retry-After` says when to ask again, if that helps.",
}
RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}


def answers(
    example: object, *, status: int = 200, **refusals: str
) -> dict[int | str, dict[str, Any]]:
    """Describe what a path answers.

    Parameters
    ----------
    example
        Of what is answered when all is well.
    refusals
        Status, as ``_404``, to an example of the message.
    """
    documents: dict[int | str, dict[str, Any]] = {status: {"content": _json(example)}}
    for name, message in refusals.items():
        refused = int(name[1:])
        documents[refused] = _refusal(refused, message)
    return documents


def body_example(example: object) -> dict[str, Any]:
    """Describe the body that a path takes by an example."""
    return {"requestBody": {"content": _json(example)}}


def _refusal(status: int, message: str) -> dict[str, Any]:
    document: dict[str, Any] = {"description": REFUSALS[status]}
    if status == 413:
        return document
    if status == 422:
        problem = {"field": "a.field", "value": "'a value'", "expected": "what was expected"}
        body = {"error": message, "fields": [problem]}
        return document | {"model": InvalidBody, "content": _json(body)}
    if status == 503:
        document["headers"] = RETRY_AFTER
    return document | {"model": Problem, "content": _json({"error": message})}


def _json(example: object) -> dict[str, Any]:
    return {"application/json": {"example": example}}
