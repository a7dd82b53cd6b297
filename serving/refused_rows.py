"""How rows that cannot be used are refused: by place, value and what was expected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import Response
from pydantic import BaseModel

from serving.answers import invalid
from serving.request_schema import explain

MOST_PROBLEMS = 100
"""More are not listed: whoever sends so many knows enough."""


def refused(errors: Sequence[Any], known: Sequence[str] = ()) -> Response:
    """Answer 422 with what is wrong where.

    Parameters
    ----------
    errors
        As pydantic lists them.
    known
        The fields that there may be, for those that there may not.
    """
    problems = list(explain(errors[:MOST_PROBLEMS], known))
    if len(errors) > MOST_PROBLEMS:
        more = {"field": "body", "value": f"{len(errors)} problems"}
        problems.append(more | {"expected": f"see the first {MOST_PROBLEMS}"})
    return invalid(problems)


def field_names(schema: type[BaseModel]) -> list[str]:
    """Names of all fields of a body, those of its rows included."""
    whole = schema.model_json_schema()
    parts = [*whole.get("$defs", {}).values(), whole]
    return [name for part in parts for name in part.get("properties", {})]
