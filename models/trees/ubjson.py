"""Reads Universal Binary JSON (https://ubjson.org, draft 12), as XGBoost writes its models."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from models.errors import ArtifactError

DEEPEST = 64
INTEGERS = {b"i": ">b", b"U": ">B", b"I": ">h", b"l": ">i", b"L": ">q"}
NUMBERS = INTEGERS | {b"d": ">f", b"D": ">d"}
WORDS = {b"T": True, b"F": False, b"Z": None}


def read_ubjson(data: bytes) -> Any:
    """Read one value; arrays of numbers of one type become NumPy arrays.

    Raises
    ------
    ArtifactError
        If the bytes are no such value.
    """
    try:
        return _Reader(data).value(0)
    except (struct.error, ValueError, KeyError, IndexError) as error:
        raise ArtifactError(f"{len(data)} bytes are no UBJSON: {error!r}.") from error


class _Reader:
    """A place in the bytes that moves on."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def value(self, depth: int) -> Any:
        return self._of(self._take(1), depth)

    def _of(self, marker: bytes, depth: int) -> Any:
        if marker in NUMBERS:
            return self._number(NUMBERS[marker])
        if marker in WORDS:
            return WORDS[marker]
        if marker == b"S":
            return self._text()
        if marker not in b"[{" or depth == DEEPEST:
            raise ValueError(f"{marker!r} at byte {self.place - 1}")
        return self._object(depth + 1) if marker == b"{" else self._array(depth + 1)

    def _object(self, depth: int) -> dict[str, Any]:
        found = {}
        while self.data[self.place : self.place + 1] != b"}":
            name = self._text()
            found[name] = self.value(depth)
        self.place += 1
        return found

    def _array(self, depth: int) -> Any:
        kind = None
        if self.data[self.place : self.place + 1] == b"$":
            kind = self._take(2)[1:]
        if self.data[self.place : self.place + 1] == b"#":
            self.place += 1
            n = self._length()
            if kind in NUMBERS:
                dtype = np.dtype(NUMBERS[kind])
                return np.frombuffer(self._take(n * dtype.itemsize), dtype)
            return [self._of(kind or self._take(1), depth) for _ in range(n)]
        found = []
        while self.data[self.place : self.place + 1] != b"]":
            found.append(self.value(depth))
        self.place += 1
        return found

    def _text(self) -> str:
        return self._take(self._length()).decode()

    def _length(self) -> int:
        n = int(self._number(INTEGERS[self._take(1)]))
        if n < 0:
            raise ValueError(f"a length of {n}")
        return n

    def _number(self, layout: str) -> Any:
        [number] = struct.unpack(layout, self._take(struct.calcsize(layout)))
        return number

    def _take(self, n: int) -> bytes:
        taken = self.data[self.place : self.place + n]
        if len(taken) < n:
            raise ValueError("it ends too early")
        self.place += n
        return taken
