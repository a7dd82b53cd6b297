"""The forms that answers take over HTTP."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastapi import Response
from pydantic import BaseModel
from pydantic_core import to_json

from configs.errors import FTIError
from monitoring.errors import LogUnavailable
from serving.errors import (
    AttributesUnusable,
    BodyTooLarge,
    BodyTypeRefused,
    BodyUnreadable,
    NothingDeployed,
    UnknownEntity,
    UnknownPrediction,
)

RETRY_AFTER_S = 1


class Problem(BaseModel):
    """Why there is no prediction, and what to do."""

    error: str


class FieldProblem(BaseModel):
    """What is wrong with one field of a body."""

    field: str
    value: str
    expected: str


class InvalidBody(BaseModel):
    """What is wrong with a body."""

    error: str
    fields: list[FieldProblem]


class Alive(BaseModel):
    """The process answers; nothing else is meant by it."""

    status: str


class Ready(BaseModel):
    """What serves: `deployment` is a digest that no other deployment has."""

    status: str
    generation: int
    deployment: str
    models: dict[str, str]
    model_name: str
    project: str


class ErrorAnswer(NamedTuple):
    """How an error is answered."""

    status: int
    headers: dict[str, str]


NOT_NOW = ErrorAnswer(503, {"Retry-After": str(RETRY_AFTER_S)})
MEANINGS: dict[type[FTIError], ErrorAnswer] = {
    UnknownEntity: ErrorAnswer(404, {}),
    UnknownPrediction: ErrorAnswer(404, {}),
    BodyTooLarge: ErrorAnswer(413, {}),
    BodyTypeRefused: ErrorAnswer(
        415, {"Accept-Post": "application/json", "Accept-Encoding": "gzip"}
    ),
    BodyUnreadable: ErrorAnswer(400, {}),
    NothingDeployed: ErrorAnswer(503, {}),
    AttributesUnusable: ErrorAnswer(503, {}),
    LogUnavailable: NOT_NOW,
}


def json_response(
    value: object, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Answer with a value as JSON."""
    return Response(to_json(value), status, headers, media_type="application/json")


def problem(message: str, status: int, headers: dict[str, str] | None = None) -> Response:
    """Answer why there is nothing else to answer: a `Problem`."""
    return json_response({"error": message}, status, headers)


def refusal(error: FTIError) -> Response:
    """Answer with an error, by what it means for the caller."""
    meaning = MEANINGS.get(type(error), NOT_NOW)
    return problem(str(error), meaning.status, meaning.headers)


def invalid(problems: list[dict[str, str]]) -> Response:
    """Answer that a body cannot be used, and why."""
    summary = "; ".join(
        f"{each['field']} is {each['value']}: {each['expected']}" for each in problems
    )
    return json_response({"error": summary, "fields": problems}, 422)


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Name the refusals of a path for its documentation."""
    models = {404: Problem, 422: InvalidBody, 503: Problem}
    return {status: {"model": models[status]} for status in statuses}
