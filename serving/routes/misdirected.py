"""Answers to requests for a path that is not there, or by a method that a path does not take."""

from __future__ import annotations

from fastapi import Response
from starlette._utils import get_route_path
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from configs.errors import nearest
from serving.answers import problem

LONGEST_SHOWN = 100


def misdirected(scope: Scope, error: HTTPException) -> Response:
    """Say what was asked for, and which path or method is there."""
    headers = dict(error.headers or {})
    path = get_route_path(scope)
    shown = ascii(path[:LONGEST_SHOWN])
    if error.status_code == 405:
        allowed = headers.get("Allow", "")
        if "GET" in allowed:
            headers["Allow"] = allowed = f"{allowed}, HEAD"
        return problem(f"{shown} is asked by {allowed}, not {scope['method']}.", 405, headers)
    if error.status_code != 404:
        return problem(str(error.detail), error.status_code, headers)
    meant = _meant(scope, path)
    hint = f" Did you mean {meant}?" if meant else ""
    return problem(f"There is no path {shown}.{hint} /docs lists all of them.", 404, headers)


def _meant(scope: Scope, path: str) -> str | None:
    """The path without needless slashes where there is one, else a similar one."""
    routes: list[BaseRoute] = scope["app"].routes
    plain = "/" + "/".join(part for part in path[:LONGEST_SHOWN].split("/") if part)
    asked = {**scope, "path": scope["root_path"] + plain}
    if plain != path and any(each.matches(asked)[0] is not Match.NONE for each in routes):
        return ascii(plain)
    known = [each.path for each in routes if getattr(each, "include_in_schema", False)]  # type: ignore[attr-defined]
    return nearest(plain, known)
