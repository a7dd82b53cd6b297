"""Reads many online rows in a thread, on connections of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from feature_store.errors import SchemaMismatch, StoreUnavailable
from feature_store.registry import FeatureSchema
from feature_store.rows import Row, RowCodec, row_prefix

if TYPE_CHECKING:
    from redis import Redis

KEYS_PER_READ = 250
Found = Row | StoreUnavailable | SchemaMismatch | None
"""A row, None where there is none, or why it cannot be had."""


class OnlineRows:
    """Reads rows of the online store; for threads, not for the event loop.

    Parameters
    ----------
    connect
        Gives a client; called when rows are first read.
    project
        What the keys begin with.
    """

    def __init__(self, connect: Callable[[], Redis], project: str) -> None:
        self.connect = connect
        self.project = project

    def read(self, schema: FeatureSchema, entities: Sequence[int]) -> dict[int, Found]:
        """Read the rows of some entities; once Redis does not answer it is not asked further."""
        prefix, codec = row_prefix(self.project, schema), RowCodec(schema)
        found: dict[int, Found] = {}
        for start in range(0, len(entities), KEYS_PER_READ):
            some = entities[start : start + KEYS_PER_READ]
            try:
                values = self._values([f"{prefix}{entity}" for entity in some])
            except StoreUnavailable as error:
                return found | dict.fromkeys(entities[start:], error)
            found.update(_decoded(codec, some, values))
            time.sleep(0)  # requests of one user wait for nothing but their turn
        return found

    def close(self) -> None:
        """Close the connections."""
        if "_client" in vars(self):
            self._client.close()

    @cached_property
    def _client(self) -> Redis:
        return self.connect()

    def _values(self, keys: list[str]) -> list[bytes | None]:
        from redis.exceptions import RedisError

        try:
            values: Any = self._client.mget(keys)
        except RedisError as error:
            raise StoreUnavailable(f"Redis did not read: {error}.") from error
        return list(values)


def _decoded(
    codec: RowCodec, entities: Sequence[int], values: Sequence[bytes | None]
) -> Iterator[tuple[int, Found]]:
    for entity, packed in zip(entities, values, strict=True):
        try:
            yield entity, None if packed is None else codec.decode(entity, packed)
        except SchemaMismatch as error:
            yield entity, error
