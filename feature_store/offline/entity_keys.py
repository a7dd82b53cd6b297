"""The keys behind identities: noted in PostgreSQL before anything is stored under them.

Only of entities whose keys are no whole numbers; see `Entity`. The table is ``entity_keys``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.entity import Entity
from feature_store.errors import InvalidEvent, KeyCollision

if TYPE_CHECKING:
    import psycopg

    from feature_store.offline.postgres import Postgres

# In one order everywhere, so that two writers never wait for each other.
NOTE = """
INSERT INTO entity_keys (entity, id, key)
SELECT DISTINCT ON (id) %(entity)s, id, key FROM {given} ORDER BY id
ON CONFLICT (entity, id) DO NOTHING"""
COLLIDING = """
SELECT stored.key, given.key FROM {given} JOIN entity_keys AS stored USING (id)
WHERE stored.entity = %(entity)s AND stored.key <> given.key LIMIT 1"""
ARRAYS = "unnest(%(ids)s::bigint[], %(keys)s::text[]) AS given (id, key)"
FIND = """
SELECT asked.place, key FROM unnest(%(ids)s::bigint[]) WITH ORDINALITY AS asked (id, place)
JOIN entity_keys AS stored USING (id) WHERE stored.entity = %(entity)s"""


def note_keys(
    connection: psycopg.Connection,
    entity: Entity,
    identities: NDArray[np.int64],
    texts: Sequence[str],
) -> None:
    """Note the keys ``(n,)`` behind identities ``(n,)``, in the caller's transaction.

    Parameters
    ----------
    texts
        `Entity.text` of each.

    Raises
    ------
    KeyCollision
        If another key has the identity of one of them.
    """
    given: dict[str, list[object]] = {"ids": identities.tolist(), "keys": list(texts)}
    _note(connection, entity, ARRAYS, given, len(texts))


class KeyedEvent(Protocol):
    """An event that says whom it is about."""

    @property
    def key(self) -> int:
        """The identity."""

    @property
    def key_fields(self) -> Mapping[str, str] | None:
        """The columns of the key as texts, where it is no whole number."""


def note_keys_of(
    connection: psycopg.Connection, entity: Entity | None, events: Sequence[KeyedEvent]
) -> None:
    """`note_keys` of those whom events are about; nothing of whole numbers (None).

    Raises
    ------
    InvalidEvent
        If an event does not say what its key is.
    KeyCollision
        If another key has the identity of one of them.
    """
    if entity is None:
        return
    texts = {}
    for event in events:
        if event.key_fields is None:
            raise InvalidEvent(
                f"An event of {entity.name} {event.key} does not say what the key is. Give "
                f"'key_fields': {', '.join(entity.columns)}."
            )
        texts[event.key] = entity.text(entity.read(event.key_fields))
    note_keys(connection, entity, np.array(list(texts), dtype=np.int64), list(texts.values()))


def note_staged_keys(connection: psycopg.Connection, entity: Entity, table: str, rows: int) -> None:
    """`note_keys` of all rows of a table with the columns ``id`` and ``key``, so many."""
    _note(connection, entity, f"{table} AS given", {}, rows)


def _note(
    connection: psycopg.Connection,
    entity: Entity,
    given: str,
    values: dict[str, list[object]],
    rows: int,
) -> None:
    parameters = {"entity": entity.name, **values}
    noted = connection.execute(NOTE.format(given=given), parameters).rowcount
    if noted == rows:
        return  # each has an identity that no other key had
    row = connection.execute(COLLIDING.format(given=given), parameters).fetchone()
    if row is not None:
        one, other = tuple(row.values()) if isinstance(row, dict) else row
        raise KeyCollision(
            f"Two keys of '{entity.name}' have one identity: '{one}' and '{other}'. Nothing was "
            "written. Write the second one in another way (with a prefix, say), or leave it out."
        )


def find_keys(
    postgres: Postgres, entity: Entity, identities: NDArray[np.int64]
) -> list[str | None]:
    """The text ``(n,)`` of the key behind each identity; None where none was noted.

    Examples
    --------
    Of an entity with whole numbers nothing is noted, nor looked for:

    >>> find_keys(None, Entity("user_id"), np.array([7]))
    ['7']
    """
    if entity.is_whole:
        return [str(identity) for identity in identities.tolist()]
    found: list[str | None] = [None] * len(identities)
    with postgres.transaction() as connection:
        parameters = {"entity": entity.name, "ids": identities.tolist()}
        for place, key in connection.execute(FIND, parameters).fetchall():
            found[place - 1] = key
    return found
