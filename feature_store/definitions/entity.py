"""What features are about, and how one such thing is told from another: its key.

A key is a whole number, a text, or several of these. Inside the stores each key is one 64-bit
number, its *identity*: a whole number is its own, of other keys it is a digest. Those are noted
beside their identities when they are first written, and of two keys that share an identity the
second is refused; so what is stored under an identity belongs to one key.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.key_parts import (
    LARGEST_KEY,
    LONGEST_KEY,
    KeyPart,
    PartType,
    plain_texts,
    shown,
    whole_number,
)
from feature_store.definitions.names import REPORT_FIELDS, REQUEST_FIELDS, refuse_name
from feature_store.errors import DefinitionError, InvalidValue

__all__ = [
    "KEY",
    "LARGEST_KEY",
    "LONGEST_KEY",
    "Entity",
    "KeyPart",
    "KeyValue",
    "PartType",
    "identity_of",
    "whole_number",
]

KeyValue = int | str | tuple[int | str, ...]
"""A key as people write it: one value, or one a part."""

KEY = "(key)"
"""Stands in a schema's meaning where its features have their names."""


class Entity:
    """What features are about.

    Parameters
    ----------
    name
        Its name; of a key of one part it is the name of the key's column, too.
    key
        ``"integer"``, ``"string"``, the names of several columns that hold texts, or a mapping
        from such names to ``"integer"`` or ``"string"``.

    Raises
    ------
    DefinitionError
        If a name is no identifier, or a part is of no known type.

    Examples
    --------
    >>> Entity("tail_number", key="string").columns
    ('tail_number',)
    >>> route = Entity("route", key={"origin": "string", "gate": "integer"})
    >>> route.read({"origin": " JFK", "gate": 7.0})
    ('JFK', 7)
    >>> route.text(("JFK", 7)), route.parse("JFK,7")
    ('["JFK",7]', ('JFK', 7))
    """

    def __init__(
        self, name: str, key: PartType | Sequence[str] | Mapping[str, PartType] = "integer"
    ) -> None:
        self.name = name
        types: dict[str, Any]
        if isinstance(key, str):
            types = {name: key}
        elif isinstance(key, Mapping):
            types = dict(key)
        else:
            types = dict.fromkeys(key, "string")
        self.parts = tuple(KeyPart(part, kind) for part, kind in types.items())
        self._refuse_bad_parts(key)

    def _refuse_bad_parts(self, key: object) -> None:
        for part in self.parts:
            if part.type not in ("integer", "string"):
                raise DefinitionError(
                    f"The key of '{self.name}' is a '{part.type}'; expected 'integer', 'string', "
                    "or the names of several columns."
                )
        for name in (self.name, *self.columns):
            refuse_name("Entity", name)
            if name in (*REQUEST_FIELDS, *REPORT_FIELDS):
                raise DefinitionError(
                    f"The key column '{name}' has the name of a field of requests to the API that "
                    "means something else. Rename it; let 'source.rename' say what the source "
                    "calls it."
                )
        if not self.parts or (not isinstance(key, str) and len(self.parts) < 2):
            raise DefinitionError(
                f"The key of '{self.name}' is {key!r}; expected two columns or more. Of "
                "one column say its type: key='string'."
            )

    @classmethod
    def of(cls, entity: Entity | str) -> Entity:
        """An entity; one that is only named has whole numbers as keys."""
        return entity if isinstance(entity, Entity) else cls(entity)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that hold the key."""
        return tuple(part.name for part in self.parts)

    @cached_property
    def is_whole(self) -> bool:
        """Whether a key is one whole number, and so its own identity."""
        return len(self.parts) == 1 and self.parts[0].type == "integer"

    @property
    def digested(self) -> Entity | None:
        """The entity where identities are digests of its keys, else None."""
        return None if self.is_whole else self

    @property
    def meaning(self) -> dict[str, Any]:
        """What decides which thing an identity stands for."""
        parts = [f"{part.name} {part.type}" for part in self.parts]
        return {"name": KEY, "entity": self.name, "parts": parts}

    @classmethod
    def from_meaning(cls, meaning: Mapping[str, Any]) -> Entity:
        """The entity of a stored definition."""
        parts: dict[str, Any] = dict(part.split() for part in meaning["parts"])
        return cls(meaning["entity"], parts if len(parts) > 1 else next(iter(parts.values())))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entity) and self.meaning == other.meaning

    def __hash__(self) -> int:
        return hash((self.name, self.parts))

    def __repr__(self) -> str:
        parts = {part.name: part.type for part in self.parts}
        return f"Entity({self.name!r}, key={parts!r})"

    def read(self, value: object) -> KeyValue:
        """Give a key as it is compared: of the right types, texts without white space around them.

        Parameters
        ----------
        value
            One value; of several parts a sequence in their order, or a mapping by name.

        Raises
        ------
        InvalidValue
            If it is no such key; the message says what arrived and what was expected.
        """
        if len(self.parts) == 1:
            [part] = self.parts
            if isinstance(value, Mapping) and set(value) == {part.name}:
                value = value[part.name]
            key: KeyValue = part.read(value)
        else:
            values = self._values(value)
            key = tuple(part.read(each) for part, each in zip(self.parts, values, strict=True))
        if not self.is_whole and len(self.text(key)) > LONGEST_KEY:
            raise InvalidValue(
                f"{self.name} is {shown(value)}, expected at most {LONGEST_KEY} characters"
            )
        return key

    def texts_of(self, values: Sequence[object]) -> list[str]:
        """`text` of many keys as people write them; see `read`.

        Raises
        ------
        InvalidValue
            If one is no such key.
        """
        texts = plain_texts(self.parts, values)
        if texts is not None:
            return texts
        return [self.text(self.read(value)) for value in values]

    def _values(self, value: object) -> Sequence[object]:
        if isinstance(value, Mapping) and set(value) == set(self.columns):
            return [value[name] for name in self.columns]
        is_sequence = isinstance(value, Sequence) and not isinstance(value, str)
        if is_sequence and len(value) == len(self.parts):  # type: ignore[arg-type]
            return value  # type: ignore[return-value]
        raise InvalidValue(f"{self.name} is {shown(value)}, expected {' and '.join(self.columns)}")

    def parse(self, text: str) -> KeyValue:
        """Read a key that a person wrote as one text: in a command line, in an address.

        Several parts are separated by commas, or are a JSON array: ``JFK,LAX``, ``["a,b","c"]``.

        Raises
        ------
        InvalidValue
            If it is no key of this entity.
        """
        if len(self.parts) == 1:
            return self.read(text)
        if not text.lstrip().startswith("["):
            return self.read(text.split(","))
        try:
            return self.read(json.loads(text))
        except ValueError:
            raise InvalidValue(
                f"{self.name} is {shown(text)}, expected a JSON array of "
                f"{' and '.join(self.columns)}"
            ) from None

    def text(self, key: KeyValue) -> str:
        """The one text that stands for a key, and for no other; `parse` reads it."""
        if isinstance(key, tuple):
            return json.dumps(key, ensure_ascii=False, separators=(",", ":"))
        return str(key)

    def identity(self, key: KeyValue) -> int:
        """The 64-bit number under which a key that was `read` is stored.

        A whole number is its own; of other keys it is the first 63 bits of BLAKE2b over `text`.
        """
        if self.is_whole:
            return key  # type: ignore[return-value]
        return identity_of(self.text(key))

    def identities(self, texts: Iterable[str]) -> NDArray[np.int64]:
        """`identity` ``(n,)`` of keys that are given as their `text`."""
        if self.is_whole:
            return np.array([int(text) for text in texts], dtype=np.int64)
        digests = b"".join([blake2b(text.encode(), digest_size=8).digest() for text in texts])
        return (np.frombuffer(digests, ">u8") >> np.uint64(1)).astype(np.int64)

    def values(self, key: KeyValue) -> dict[str, int | str]:
        """A key by the names of its columns."""
        given = key if isinstance(key, tuple) else (key,)
        return dict(zip(self.columns, given, strict=True))


def identity_of(text: str) -> int:
    """The identity of a key that is no whole number.

    Examples
    --------
    >>> identity_of("N14228")
    803770263630268844
    """
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
