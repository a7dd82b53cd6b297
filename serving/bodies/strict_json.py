"""JSON read strictly: every field once, numbers that are numbers, and rows one by one.

The rows of a large body are decoded from its bytes in turn, so that no single step keeps other
threads waiting for long, and memory holds one row beside what was made of the others.
"""

from __future__ import annotations

import json
import re
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import Any, NoReturn

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from infrastructure.work import checkpoint
from serving.bodies.clean_body import CleanBody
from serving.bodies.request_schema import Shown

LARGEST_ROW_BYTES = 64 * 1024
"""As much as a body of one prediction: what a row may become in memory is bounded by it."""
ROWS_BETWEEN = 64
"""Rows that are read before it is asked whether anybody waits still: a millisecond."""
MOST_PROBLEMS = 100
"""More are not looked for: whoever sends so many knows enough."""
MOST_FIELDS = 100
SPACE = rb"[ \t\r\n]*"
NEXT = re.compile(SPACE + rb"," + SPACE)
END = re.compile(SPACE + rb"\]" + SPACE + rb"\}" + SPACE + rb"\Z")


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

    def __init__(self, name: str, row: type[CleanBody], most: int) -> None:
        self.name = name
        self.row = row
        self.most = most
        start = rf'SPACE\{{SPACE"{name}"SPACE:SPACE\[SPACE'
        self._start = re.compile(start.encode().replace(b"SPACE", SPACE))

    def read(self, content: bytes | bytearray) -> list[Any]:
        """Give the validated rows.

        Raises
        ------
        BadBody
            If it is no such JSON, or some rows cannot be used.
        """
        rows: list[Any] = []
        errors: list[Any] = []
        for place, given in enumerate(self._split(content)):
            if place % ROWS_BETWEEN == 0:
                checkpoint()
            if place == self.most:
                raise BadBody([self._error(f"expected at most {self.most} rows", "more")])
            try:
                rows.append(self.convert(self.row.read(given)))
            except ValidationError as error:
                found = error.errors(include_url=False, include_context=False)
                errors += [self._placed(each, place) for each in found[:MOST_PROBLEMS]]
                if len(errors) >= MOST_PROBLEMS:
                    break
        if errors:
            raise BadBody(errors)
        return rows

    def _split(self, content: bytes | bytearray) -> Iterator[Any]:
        start = self._start.match(content)
        if start is None:
            yield self._single(content)
            return
        place = start.end()
        for number in count():
            try:
                row, place = _read_row(content, place)
            except DuplicateField as error:
                raise BadBody([error.problem(self.name, number)]) from error
            except (ValueError, RecursionError) as error:
                raise self._bad(content, f"row {number}: {error}") from error
            yield row
            if END.match(content, place):
                return
            comma = NEXT.match(content, place)
            if comma is None:
                raise self._bad(content, f"at byte {place} comes neither another row nor the end")
            place = comma.end()

    def _single(self, content: bytes | bytearray) -> Any:
        try:
            if len(content) > LARGEST_ROW_BYTES:
                raise ValueError(f"a single row has more than {LARGEST_ROW_BYTES} bytes")
            row = DECODER.decode(content.decode())
        except DuplicateField as error:
            raise BadBody([error.problem()]) from error
        except (ValueError, RecursionError) as error:
            raise self._bad(content, str(error)) from error
        if not isinstance(row, dict) or not row or self.name in row:
            raise self._bad(content, "there is no such list, or something beside it")
        return row

    def _placed(self, error: Any, place: int) -> dict[str, Any]:
        """Say in which row an error is; keep no large value for it."""
        given = error["input"]
        if isinstance(given, dict | list):
            given = Shown("an object" if isinstance(given, dict) else "a list")
        return {**error, "loc": (self.name, place, *error["loc"]), "input": given}

    def _bad(self, content: bytes | bytearray, why: str) -> BadBody:
        what = f'expected {{"{self.name}": [row, …]}}: {why}'
        return BadBody([self._error(what, bytes(content[:MOST_PROBLEMS]))])

    def _error(self, message: str, given: object) -> dict[str, Any]:
        return {"type": "rows", "loc": (self.name,), "msg": message, "input": given}


def _read_row(content: bytes | bytearray, place: int) -> tuple[Any, int]:
    """Read the row that begins at a place; give it, and the place behind it.

    A flat row ends at its first brace, unless one of its texts has one.
    """
    end = content.find(b"}", place, place + LARGEST_ROW_BYTES) + 1
    if end:
        with suppress(ValueError, RecursionError):
            return _decode(content[place:end].decode(), place)
    window = content[place : place + LARGEST_ROW_BYTES]
    is_cut = place + LARGEST_ROW_BYTES < len(content)
    text = getincrementaldecoder("utf-8")().decode(window, final=not is_cut)
    try:
        return _decode(text, place)
    except json.JSONDecodeError as error:
        if is_cut:
            limit = f"it is no JSON, or has more than {LARGEST_ROW_BYTES} bytes"
            raise ValueError(f"{limit}; {error}") from error
        raise


def _decode(text: str, place: int) -> tuple[Any, int]:
    row, end = DECODER.raw_decode(text)
    return row, place + (end if text.isascii() else len(text[:end].encode()))


def require_unique(content: bytes) -> None:
    """Refuse JSON in which an object names a field twice: one of the two would be lost.

    Raises
    ------
    RequestValidationError
        If there is one.
    """
    try:
        json.loads(content, object_pairs_hook=unique)
    except DuplicateField as error:
        raise RequestValidationError([error.problem()]) from None


def require_few(content: bytes) -> None:
    """Refuse JSON with far more fields than any request has: each would be validated by itself.

    Raises
    ------
    RequestValidationError
        If there are more than `MOST_FIELDS`.
    """
    with suppress(ValueError, RecursionError):
        found = json.loads(content)
        if isinstance(found, dict) and len(found) > MOST_FIELDS:
            given, expected = (
                Shown(f"{len(found)} fields"),
                f"expected at most {MOST_FIELDS} fields",
            )
            problem = {"type": "fields", "loc": (), "msg": expected, "input": given}
            raise RequestValidationError([problem])


class DuplicateField(ValueError):
    """An object of JSON names a field twice."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the field '{name}' is given twice")
        self.name = name

    def problem(self, *place: str | int) -> dict[str, Any]:
        """Describe it as pydantic would."""
        expected = "expected this field once"
        loc, given = (*place, self.name), Shown("given twice")
        return {"type": "duplicate", "loc": loc, "msg": expected, "input": given}


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make the dict of an object of JSON.

    Raises
    ------
    DuplicateField
        If a name is there twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        seen = set()
        for name, _ in pairs:
            if name in seen:
                raise DuplicateField(name)
            seen.add(name)
    return found


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and infinities, which Python's JSON would take."""
    raise ValueError(f"{name} is no number")


DECODER = json.JSONDecoder(parse_constant=refuse_constant, object_pairs_hook=unique)
