"""The keys of a planned request: as its client gave them, and as rows are stored under them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from feature_store.definitions.entity import Entity, PartType
from feature_store.errors import InvalidValue

SMALLEST, LARGEST = -(2**63), 2**63 - 1


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

    unique: list[int]
    spread: list[int] | None

    @classmethod
    def of(cls, identities: Sequence[int]) -> Keys:
        """The keys with these identities, row by row.

        Examples
        --------
        >>> Keys.of([7, 3, 7])
        Keys(unique=[7, 3], spread=[0, 1, 0])
        """
        unique = list(dict.fromkeys(identities))
        if len(unique) == len(identities):
            return cls(unique, None)
        places = {identity: place for place, identity in enumerate(unique)}
        return cls(unique, [places[identity] for identity in identities])

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


def key_types(entities: Sequence[Entity]) -> dict[str, PartType] | None:
    """The columns of some entities' keys, and their types; None where they contradict."""
    types: dict[str, PartType] = {}
    for part in (part for entity in entities for part in entity.parts):
        if types.setdefault(part.name, part.type) != part.type:
            return None
    return types


def read_keys(
    rows: Any, entities: Sequence[Entity], types: Mapping[str, PartType]
) -> RequestKeys | None:
    """The keys of a request's entity rows; None where Feast's own way must look at them.

    Parameters
    ----------
    rows
        A mapping a row, or a list a column.
    types
        The columns that there must be, and no others.
    """
    given = _columns(rows, types.keys())
    if given is None:
        return None
    if not all(_are_plain(values, types[name]) for name, values in given.items()):
        return None
    try:
        return RequestKeys(given, [Keys.of(_identities(entity, given)) for entity in entities])
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


def _identities(entity: Entity, given: Mapping[str, list[Any]]) -> list[int]:
    columns = [given[name] for name in entity.columns]
    if entity.is_whole:
        return columns[0]
    keys = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
    identities: list[int] = entity.identities(entity.texts_of(keys)).tolist()
    return identities
