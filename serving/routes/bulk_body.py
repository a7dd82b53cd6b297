"""A large JSON body read row by row: no single step of it keeps other threads waiting for long."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from pydantic import BaseModel, ValidationError

MOST_PROBLEMS = 100
"""More are not looked for: whoever sends so many knows enough."""
SPACE = r"[ \t\r\n]*"
NEXT = re.compile(f"{SPACE},{SPACE}")
END = re.compile(rf"{SPACE}\]{SPACE}\}}{SPACE}\Z")


class BadBody(Exception):
    """A body cannot be used; ``errors`` has the form in which pydantic lists them."""

    def __init__(self, errors: list[Any]) -> None:
        super().__init__(errors)
        self.errors = errors


class RowsBody:
    """Reads ``{"name": [row, …]}``; a single row may come without a list around it.

    Parameters
    ----------
    name
        What the list is called.
    row
        The schema of a row.
    most
        How many there may be.
    """

    convert: Callable[[Any], Any] = staticmethod(lambda row: row)
    """What becomes of a validated row, at once: what was read is not kept."""

    def __init__(self, name: str, row: type[BaseModel], most: int) -> None:
        self.name = name
        self.row = row
        self.most = most
        self._start = re.compile(rf'{SPACE}\{{{SPACE}"{name}"{SPACE}:{SPACE}\[{SPACE}')

    def read(self, content: bytes) -> list[Any]:
        """Give the validated rows.

        Raises
        ------
        BadBody
            If it is no such JSON, or some rows cannot be used.
        """
        rows: list[Any] = []
        errors: list[Any] = []
        validate = self.row.__pydantic_validator__.validate_python
        for place, given in enumerate(self._split(content)):
            if place == self.most:
                raise BadBody([self._error(f"expected at most {self.most} rows", "more")])
            try:
                rows.append(self.convert(validate(given)))
            except ValidationError as error:
                found = error.errors(include_url=False, include_context=False)
                errors += [{**each, "loc": (self.name, place, *each["loc"])} for each in found]
                if len(errors) >= MOST_PROBLEMS:
                    break
        if errors:
            raise BadBody(errors)
        return rows

    def _split(self, content: bytes) -> Iterator[Any]:
        try:
            text = content.decode()
            start = self._start.match(text)
            if start is None:
                yield self._single(text)
                return
            place = start.end()
            while True:
                row, place = DECODER.raw_decode(text, place)
                yield row
                if END.match(text, place):
                    return
                following = NEXT.match(text, place)
                if following is None:
                    raise ValueError(f"at character {place} comes neither another row nor the end")
                place = following.end()
        except (ValueError, RecursionError) as error:
            what = f'expected {{"{self.name}": [row, …]}}: {error}'
            raise BadBody([self._error(what, content[:MOST_PROBLEMS])]) from error

    def _single(self, text: str) -> Any:
        row = DECODER.decode(text)
        if not isinstance(row, dict) or not row or self.name in row:
            raise ValueError("there is no such list, or something beside it")
        return row

    def _error(self, message: str, given: object) -> dict[str, Any]:
        return {"type": "rows", "loc": (self.name,), "msg": message, "input": given}


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


DECODER = json.JSONDecoder(parse_constant=_no_number)
