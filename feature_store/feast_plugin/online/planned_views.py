"""What a plan reads of each view, and the columns of Python values that the rows give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, cast

from feast import FeatureView
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import feast_value_type_to_python_type
from feast.value_type import ValueType
from redis.asyncio import Redis as AsyncRedis

from feature_store.feast_plugin.conversion import ValueCodec
from feature_store.feast_plugin.online.foreign_rows import ForeignRow, ForeignRows
from feature_store.feast_plugin.online.reading import ReadRow, Replies, read_row
from feature_store.feast_plugin.online.request_keys import Key, Keys
from feature_store.online.row_codec import Row
from feature_store.online_store import OnlineStore

PLAIN = {
    *(ValueType.INT32, ValueType.INT64, ValueType.FLOAT, ValueType.DOUBLE),
    *(ValueType.BOOL, ValueType.STRING, ValueType.BYTES),
}
"""Types whose values are Python's own in Feast's messages."""


@dataclass(frozen=True)
class PlannedFeatures:
    """Which features of a view a plan reads.

    Parameters
    ----------
    labels
        The wanted features as the answer calls them.
    entity
        Place of what the view is about among the entities of the plan.
    """

    table: FeatureView
    names: list[str]
    labels: list[str]
    entity: int


@dataclass(frozen=True)
class PlannedView:
    """What a plan reads of a view of ours.

    Parameters
    ----------
    places
        Places of the wanted features in a row.
    timestamps
        Labels of those that are exact columns of times.
    """

    features: PlannedFeatures
    store: OnlineStore
    codec: ValueCodec
    places: list[int]
    timestamps: frozenset[str]

    def redis_key(self, key: Key) -> str:
        """The Redis key of an entity."""
        return f"{self.store.prefix}{key}"  # type: ignore[str-bytes-safe]

    def require_ready(self) -> None:
        """Refuse to read a version that is being filled."""
        self.store.versions.require_ready()

    async def require_ready_async(self, client: AsyncRedis) -> None:
        """`require_ready` without blocking the event loop."""
        await self.store.versions.require_ready_async(client)

    def answer(self, keys: Keys, replies: Replies) -> ViewAnswer:
        """The rows of some keys."""
        store, unique = self.store, cast(list[int], keys.unique)
        found = store.decode(unique, [replies[self.redis_key(key)] for key in unique])
        if store.ttl is None:
            return ViewAnswer(self, keys, found, frozenset())
        old = (place for place, row in enumerate(found) if row is not None and store.expired(row))
        return ViewAnswer(self, keys, found, frozenset(old))


@dataclass(frozen=True)
class PlannedForeignView:
    """What a plan reads of a view of the user's own."""

    features: PlannedFeatures
    stored: ForeignRows
    timestamps: frozenset[str] = frozenset()

    def redis_key(self, key: Key) -> bytes:
        """The Redis key of an entity."""
        return self.stored.key(cast(bytes, key))

    def require_ready(self) -> None:
        """Such rows have no versions: each says what it holds."""

    async def require_ready_async(self, client: AsyncRedis) -> None:
        """`require_ready` without blocking the event loop."""

    def answer(self, keys: Keys, replies: Replies) -> ForeignAnswer:
        """The rows of some keys."""
        now, stored, names = datetime.now(UTC), self.stored, self.features.names
        found = [
            stored.read(cast(bytes, key), replies[self.redis_key(key)], names)
            for key in keys.unique
        ]
        old = (n for n, row in enumerate(found) if row is not None and stored.expired(row, now))
        return ForeignAnswer(self, keys, found, frozenset(old))

    @cached_property
    def readers(self) -> dict[str, Callable[[Value], Any]]:
        """What gives Python's value of each feature's."""
        table = self.features.table
        return {field.name: _reader(field.dtype.to_value_type()) for field in table.features}


@dataclass(frozen=True)
class ViewAnswer:
    """The rows of one view of ours, one a key.

    Parameters
    ----------
    keys
        Whose they are.
    found
        Rows as they are stored; None where there is none.
    expired
        Places of those that are older than the view's TTL.
    """

    view: PlannedView
    keys: Keys
    found: list[Row | None]
    expired: frozenset[int]

    @property
    def seconds(self) -> list[int]:
        """Event time of each row in whole seconds since 1970; 0 where there is none."""
        return [0 if row is None else row.event_time_us // 1_000_000 for row in self.found]

    def columns(self) -> list[list[Any]]:
        """The values ``(n,)`` of each wanted feature; None where there is none."""
        n, view = len(self.found), self.view
        there = [
            place
            for place, row in enumerate(self.found)
            if row is not None and place not in self.expired
        ]
        rows = [row for place in there if (row := self.found[place]) is not None]
        if not rows:
            return [[None] * n for _ in view.places]
        columns = view.codec.columns(rows, view.places)
        return columns if len(there) == n else [_widened(column, there, n) for column in columns]

    def rows(self) -> list[ReadRow]:
        """The rows as Feast wants them: `Read.rows`."""
        view = self.view
        return [
            read_row(view.codec, view.features.names, row, place in self.expired)
            for place, row in enumerate(self.found)
        ]


@dataclass(frozen=True)
class ForeignAnswer:
    """The rows of one view of the user's own, one a key; see `ViewAnswer`."""

    view: PlannedForeignView
    keys: Keys
    found: list[ForeignRow | None]
    expired: frozenset[int]

    @property
    def seconds(self) -> list[int]:
        """Event time of each row in whole seconds since 1970; 0 where there is none."""
        return [0 if row is None else row.event_time_us // 1_000_000 for row in self.found]

    def columns(self) -> list[list[Any]]:
        """The values ``(n,)`` of each wanted feature; None where there is none."""
        held = [
            {} if row is None or place in self.expired else row.values
            for place, row in enumerate(self.found)
        ]
        columns = []
        for name in self.view.features.names:
            read = self.view.readers[name]
            column = [row.get(name) for row in held]
            columns.append([None if v is None else read(v) for v in column])
        return columns

    def rows(self) -> list[ReadRow]:
        """The rows as Feast wants them: `Read.rows`."""
        return [
            (None, None)
            if row is None
            else (row.event_time, None if place in self.expired else dict(row.values))
            for place, row in enumerate(self.found)
        ]


def spread(keys: Keys, values: Sequence[Any]) -> list[Any]:
    """Values of each key as values of each row of the request."""
    places = keys.spread
    return list(values) if places is None else [values[place] for place in places]


def _reader(kind: ValueType) -> Callable[[Value], Any]:
    if kind in PLAIN:
        return _plain
    return lambda value: feast_value_type_to_python_type(value, kind)


def _plain(value: Value) -> Any:
    kind = value.WhichOneof("val")
    return None if kind is None else getattr(value, kind)


def _widened(column: list[Any], places: list[int], n: int) -> list[Any]:
    whole: list[Any] = [None] * n
    for place, value in zip(places, column, strict=True):
        whole[place] = value
    return whole
