"""What a user reads when a setting cannot be used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from configs.deployment_config import KEY_PREFIX
from configs.errors import nearest

SECRET_WORDS = ("_env", "password", "secret", "token", "auth", "credential", "key_sha256")


def explain(
    error: ValidationError, settings: type[BaseModel], environment_prefix: str
) -> Iterator[str]:
    """Give one line a problem: the key, the value, what was expected."""
    problems = error.errors()
    for problem in problems:
        if any(_is_inside(other["loc"], problem["loc"]) for other in problems):
            continue  # a list that is empty because its only item is wrong
        path, known = _place(problem["loc"], settings)
        key = ".".join(path)
        shown = value_shown(path[-1], problem["input"])
        if problem["type"] == "extra_forbidden":
            near = nearest(path[-1], known)
            parent = "".join(f"{part}." for part in path[:-1])
            hint = f"Did you mean '{parent}{near}'?" if near else f"Known: {', '.join(known)}."
            yield f"Setting '{key}' is not known (value: {shown}). {hint}"
        elif problem["type"] == "missing":
            variable = environment_prefix + "__".join(path).upper()
            yield f"Setting '{key}' is missing; give it in YAML or as {variable}."
        elif problem["type"] == "union_tag_invalid":
            given = problem["ctx"]
            yield (
                f"Setting '{key}.type' has the value '{given['tag']}': expected one of "
                f"{given['expected_tags']}."
            )
        elif problem["type"] == "value_error" and isinstance(problem["input"], dict):
            # The rule is about several keys: they are in its message, all others need not be.
            yield f"Setting '{key}': {problem['ctx']['error']}."
        else:
            yield f"Setting '{key}' has the value {shown}: {problem['msg']}."


def value_shown(key: str, value: object) -> str:
    """Show a value in a message, unless it may be a secret.

    Examples
    --------
    >>> value_shown("port", 70_000), value_shown("url", "redis://:word@cache")
    ('70000', '(hidden)')
    """
    return "(hidden)" if _may_be_secret(key, value) else repr(value)


def _is_inside(location: Sequence[int | str], other: Sequence[int | str]) -> bool:
    return len(location) > len(other) and tuple(location[: len(other)]) == tuple(other)


def _may_be_secret(key: str, value: object) -> bool:
    """Whether somebody may have written a password where its variable's name belongs."""
    is_named_so = any(word in key.lower() for word in SECRET_WORDS)
    has_password = key.lower().endswith("url") and "@" in str(value)
    return is_named_so or has_password or KEY_PREFIX in str(value)


def _place(location: Sequence[int | str], settings: type[BaseModel]) -> tuple[list[str], list[str]]:
    """The keys as they are written, and the names that are known where the last one stands.

    Pydantic puts the type of a source among the keys; whoever wrote them did not.
    """
    path: list[str] = []
    candidates: list[type[BaseModel]] = [settings]
    known: list[str] = []
    for part in map(str, location):
        chosen = [model for model in candidates if len(candidates) > 1 and _tag(model) == part]
        if chosen:
            candidates = chosen
            continue
        path.append(part)
        if not part.isdigit():
            known = list(candidates[0].model_fields) if len(candidates) == 1 else []
            field = candidates[0].model_fields.get(part) if known else None
            candidates = _models(field.annotation) if field else []
    return path, known


def _tag(model: type[BaseModel]) -> object:
    field = model.model_fields.get("type")
    return get_args(field.annotation)[0] if field else None


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The sections that an annotation names, however deep in unions and tuples."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
