"""The keys of a planned request: as its client gave them, and as rows are stored under them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from feast.protos.feast.types.Value_pb2 import Value
from feast.value_type import ValueType

from feature_store.definitions.entity import Entity, PartType
from feature_store.errors import InvalidValue
from feature_store.feast_plugin.online.foreign_rows import packed_key

SMALLEST, LARGEST = -(2**63), 2**63 - 1
KEY_TYPES: dict[ValueType, PartType] = {ValueType.INT64: "integer", ValueType.STRING: "string"}
"""Types of keys that a plan reads by itself."""
KEY_KINDS: dict[PartType, str] = {"integer": "int64_val", "string": "string_val"}
"""Which of Feast's values they are."""
Key = int | bytes
"""What rows are stored under: the identity of a key of ours, or a key of the user's as bytes."""


class KeyForm(Protocol):
    """What makes keys of the columns that a request gives."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns."""

    def read(self, given: Mapping[str, list[Any]]) -> list[Key]:
        """The keys, row by row."""


@dataclass(frozen=True)
class Identities:
    """Keys of an entity of ours."""

    entity: Entity

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the entity's key."""
        return self.entity.columns

    def read(self, given: Mapping[str, list[Any]]) -> list[Key]:
        """The identities of the keys."""
        entity, columns = self.entity, [given[name] for name in self.columns]
        if entity.is_whole:
            return columns[0]
        keys = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
        identities: list[Key] = entity.identities(entity.texts_of(keys)).tolist()
        return identities


@dataclass(frozen=True)
class KeyBytes:
    """Keys of a view of the user's own: the names of their parts, and of which types they are."""

    parts: tuple[tuple[str, PartType], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the parts."""
        return tuple(name for name, _ in self.parts)

    def read(self, given: Mapping[str, list[Any]]) -> list[Key]:
        """The keys as bytes."""
        columns = [
            [(name, Value(**{KEY_KINDS[kind]: each})) for each in given[name]]
            for name, kind in self.parts
        ]
        return [packed_key(list(parts)) for parts in zip(*columns, strict=True)]


@dataclass(frozen=True)
class Keys:
    """Keys of one entity.

    Parameters
    ----------
    unique
        Their identities, each once.
    spread
        For each row of the request the place of its key; None where no key comes twice.
    """

    unique: list[Key]
    spread: list[int] | None

    @classmethod
    def of(cls, keys: Sequence[Key]) -> Keys:
        """Keys as they stand in the rows of a request.

        Examples
        --------
        >>> Keys.of([7, 3, 7])
        Keys(unique=[7, 3], spread=[0, 1, 0])
        """
        unique = list(dict.fromkeys(keys))
        if len(unique) == len(keys):
            return cls(unique, None)
        places = {key: place for place, key in enumerate(unique)}
        return cls(unique, [places[key] for key in keys])

    def destinations(self) -> list[list[int]]:
        """For each unique key the rows of the request that it stands in."""
        if self.spread is None:
            return [[place] for place in range(len(self.unique))]
        rows: list[list[int]] = [[] for _ in self.unique]
        for row, place in enumerate(self.spread):
            rows[place].append(row)
        return rows


@dataclass(frozen=True)
class RequestKeys:
    """The keys of a request.

    Parameters
    ----------
    given
        The columns as they came, in order.
    of
        The keys of each entity that the request is about.
    """

    given: dict[str, list[Any]]
    of: list[Keys]

    def __len__(self) -> int:
        return len(next(iter(self.given.values())))


def read_keys(
    rows: Any, forms: Sequence[KeyForm], types: Mapping[str, PartType]
) -> RequestKeys | None:
    """The keys of a request's entity rows; None where Feast's own way must look at them.

    Parameters
    ----------
    rows
        A mapping a row, or a list a column.
    forms
        What makes the keys of each entity.
    types
        The columns that there must be, and no others.
    """
    given = _columns(rows, types.keys())
    if given is None:
        return None
    if not all(_are_plain(values, types[name]) for name, values in given.items()):
        return None
    try:
        return RequestKeys(given, [Keys.of(form.read(given)) for form in forms])
    except InvalidValue:
        return None


def _columns(rows: Any, names: Any) -> dict[str, list[Any]] | None:
    if isinstance(rows, list):
        if any(row.keys() != names for row in rows):
            return None
        return {name: [row[name] for row in rows] for name in rows[0]}
    if rows.keys() != names:
        return None
    sizes = {len(column) if isinstance(column, list) else 0 for column in rows.values()}
    if len(sizes) != 1 or 0 in sizes:
        return None
    return {name: list(column) for name, column in rows.items()}


def _are_plain(values: list[Any], kind: PartType) -> bool:
    if kind == "string":
        return all(type(each) is str for each in values)
    return all(type(each) is int and SMALLEST <= each <= LARGEST for each in values)
