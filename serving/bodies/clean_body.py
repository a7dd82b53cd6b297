"""A body whose values are read as those of any source; see `feature_store.definitions.cleaning`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from feature_store.definitions.cleaning import LARGEST_WHOLE, Cleaning, strip

SPACE = "[ \\t\\r\\n]*"
SPECIAL = frozenset("\\^$.*+?()[]{}|/")


class CleanBody(BaseModel):
    """A strict body in which 39.0 is 39, and a mark of a missing value is null.

    What needs no cleaning, which is most, costs nothing: it is looked at only where validation
    finds something.
    """

    cleanings: ClassVar[Mapping[str, Cleaning]] = {}
    """How the numbers among the fields are read, by each name that a field may have."""

    @classmethod
    def read_json(cls, content: bytes) -> Self:
        """Validate JSON.

        Raises
        ------
        ValidationError
            If it cannot be used.
        """
        try:
            body: Self = cls.__pydantic_validator__.validate_json(content)
            return body
        except ValidationError as error:
            return cls._read_cleaned(error, partial(from_json, content))

    @classmethod
    def read(cls, values: Any) -> Self:
        """Validate what has been parsed already; see `read_json`."""
        try:
            body: Self = cls.__pydantic_validator__.validate_python(values)
            return body
        except ValidationError as error:
            return cls._read_cleaned(error, lambda: values)

    @classmethod
    def _read_cleaned(cls, error: ValidationError, given: Callable[[], Any]) -> Self:
        changes: dict[Any, int | None] = {}
        for problem in error.errors(include_url=False, include_context=False):
            if len(problem["loc"]) != 1 or problem["type"] in {
                "json_invalid",
                "missing",
                "extra_forbidden",
            }:
                continue
            [name], value = problem["loc"], problem["input"]
            cleaning = cls.cleanings.get(str(name))
            if type(value) is float and value.is_integer() and abs(value) <= LARGEST_WHOLE:
                changes[name] = int(value)
            elif cleaning is not None and _is_missing(value, cleaning):
                changes[name] = None
        if not changes:
            raise error
        cleaned: Self = cls.__pydantic_validator__.validate_python({**given(), **changes})
        return cleaned


def marks_pattern(cleaning: Cleaning) -> str:
    r"""A regular expression, as JSON Schema has it, for texts that stand for a missing number.

    Examples
    --------
    >>> marks_pattern(Cleaning((), ("?", "n/a")))
    '^[ \\t\\r\\n]*(|\\?|[nN]\\/[aA])[ \\t\\r\\n]*$'
    """
    marks = "|".join("".join(map(_either_case, mark)) for mark in sorted(cleaning.marks))
    return f"^{SPACE}({marks}){SPACE}$"


def _either_case(character: str) -> str:
    if character in SPECIAL:
        return f"\\{character}"
    lower, upper = character.lower(), character.upper()
    return character if lower == upper else f"[{lower}{upper}]"


def _is_missing(value: object, cleaning: Cleaning) -> bool:
    if isinstance(value, str):
        return cleaning.is_mark(strip(value))
    return type(value) in (int, float) and value in cleaning.mark_numbers
