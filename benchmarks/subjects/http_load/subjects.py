"""The servers that are compared, without those that need an environment of their own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence

from benchmarks.subjects.http_load.process import LOAD_CORE, SERVER_CORE, Subject
from benchmarks.subjects.http_load.stage import BODIES, Stage
from feature_store.feature_definitions import MODEL_VIEW

BOTH_CORES = frozenset({SERVER_CORE, LOAD_CORE})


def yardsticks(stage: Stage) -> list[Subject]:
    """Constants: the limit of the HTTP server, FastAPI for our body, FastAPI for 47 numbers."""
    numbers = [
        json.dumps(dict(zip(MODEL_VIEW.schema.names, vector, strict=True)))
        for vector in stage.vectors
    ]
    return [
        Subject(
            "raw_asgi", _module("benchmarks.subjects.http_load.yardsticks", "raw_asgi"), stage.users
        ),
        Subject(
            "constant", _module("benchmarks.subjects.http_load.yardsticks", "constant"), stage.users
        ),
        Subject(
            "constant_47_numbers",
            _module("benchmarks.subjects.http_load.yardsticks", "constant_47"),
            numbers,
        ),
    ]


def ours(stage: Stage) -> list[Subject]:
    """Our path by user, by attributes, and the control that answers each request alone."""
    api = _module("serving", "--exact-port", "--port")

    def subject(name: str, bodies: Sequence[str], **more: str) -> Subject:
        return Subject(name, api, bodies, environment=stage.environment(name) | more)

    return [
        subject("ours", stage.users),
        subject("ours_by_attributes", stage.attributes),
        subject("ours_one_by_one", stage.users, FTI_DEPLOYMENT__API__BATCH_ROWS="1"),
    ]


def feast(stage: Stage) -> Subject:
    """Feast's client over its own Redis store in a FastAPI route, then the same trees."""
    environment = stage.environment("feast") | {
        "STOCK_FEAST": str(stage.folder),
        "NATIVE_MODEL": str(stage.native_model),
    }
    command = _module("benchmarks.subjects.http_load.feast_app")
    users = [json.dumps({"user_id": user}) for user in range(1, BODIES + 1)]
    return Subject("feast_sdk", command, users, environment=environment)


def workers(stage: Stage, n: int) -> Subject:
    """Our path with so many workers, free to run on both cores."""
    command = _module("serving", "--workers", str(n), "--exact-port", "--port")
    name = f"workers_{n}"
    environment = stage.environment(name)
    return Subject(name, command, stage.users, environment=environment, cores=BOTH_CORES)


def _module(*arguments: str) -> Callable[[int], Sequence[str]]:
    return lambda port: [sys.executable, "-m", *arguments, str(port)]
