"""The part of an online request that concerns one view: which keys, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from feast import FeatureView
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value
from feast.utils import _populate_response_from_feature_data as fill_response
from redis.asyncio import Redis as AsyncRedis

from feature_store.definitions.exact import ExactValue
from feature_store.feast_plugin.connections import RedisClients
from feature_store.feast_plugin.conversion import ValueCodec
from feature_store.feast_plugin.online.exact_times import note_times
from feature_store.feast_plugin.online.foreign_rows import ForeignRows
from feature_store.online.row_codec import Row, moment_of
from feature_store.online_store import OnlineStore

ReadRow = tuple[datetime | None, dict[str, Value] | None]
"""Event time and features of a row, as Feast wants them; no features where the row is no answer."""
Replies = Mapping[str | bytes, bytes | None]
"""Redis key to what it holds."""


class StoredRows(Protocol):
    """Rows of one view, which may be read once they are there."""

    def require_ready(self) -> None:
        """Refuse to read rows that are being filled."""

    async def require_ready_async(self, client: AsyncRedis) -> None:
        """`require_ready` without blocking the event loop."""


class Read(StoredRows, Protocol):
    """What a request wants of one view."""

    @property
    def keys(self) -> Sequence[str | bytes]:
        """The Redis keys to read."""

    def rows(self, replies: Replies) -> list[ReadRow]:
        """The rows, in order; an expired one has its event time and no features."""

    def answer(
        self,
        replies: Replies,
        response: GetOnlineFeaturesResponse,
        full_names: bool,
        with_version: bool,
    ) -> None:
        """Add the features to a response, each value with its status."""


@dataclass(frozen=True)
class Wanted:
    """Which features of a view are wanted, and where they go.

    Parameters
    ----------
    table
        The view as Feast knows it.
    names
        The features.
    destinations
        For each entity the rows of the answer that it fills, out of ``rows_out``.
    """

    table: FeatureView
    names: list[str]
    destinations: Sequence[list[int]] = ()
    rows_out: int = 0

    def fill(
        self,
        rows: Sequence[ReadRow],
        response: GetOnlineFeaturesResponse,
        full_names: bool,
        with_version: bool,
    ) -> None:
        """Add the rows of the entities to a response, each value with its status."""
        before = len(response.results)
        fill_response(
            self.names, list(rows), self.destinations, response,
            full_names, self.table, self.rows_out, with_version,
        )  # fmt: skip
        for (event_time, features), places in zip(rows, self.destinations, strict=True):
            if event_time is not None and features is None:
                for vector in response.results[before:]:
                    for place in places:
                        vector.statuses[place] = FieldStatus.OUTSIDE_MAX_AGE


@dataclass(frozen=True)
class ViewRead:
    """What a request wants of a view of ours.

    Parameters
    ----------
    entities
        The identities of the keys, each once.
    """

    wanted: Wanted
    store: OnlineStore
    codec: ValueCodec
    entities: list[int]

    @property
    def keys(self) -> list[str]:
        """The Redis keys to read."""
        return [self.store.key(entity) for entity in self.entities]

    def require_ready(self) -> None:
        """Refuse to read a version that is being filled."""
        self.store.versions.require_ready()

    async def require_ready_async(self, client: AsyncRedis) -> None:
        """`require_ready` without blocking the event loop."""
        await self.store.versions.require_ready_async(client)

    def rows(self, replies: Replies) -> list[ReadRow]:
        """The rows, in order; an expired one has its event time and no features."""
        return [self._read(row) for row in self._stored(replies)]

    def _stored(self, replies: Replies) -> list[Row | None]:
        return self.store.decode(self.entities, [replies[key] for key in self.keys])

    def _read(self, row: Row | None) -> ReadRow:
        is_expired = row is not None and self.store.expired(row)
        return read_row(self.codec, self.wanted.names, row, is_expired)

    def answer(
        self,
        replies: Replies,
        response: GetOnlineFeaturesResponse,
        full_names: bool,
        with_version: bool,
    ) -> None:
        """Add the features to a response, each value with its status."""
        stored, wanted = self._stored(replies), self.wanted
        wanted.fill([self._read(row) for row in stored], response, full_names, with_version)
        called: str = wanted.table.projection.name_to_use()  # type: ignore[no-untyped-call]
        for name in self.codec.timestamps(wanted.names):
            place = self.codec.schema.exact_positions[name]
            times: list[ExactValue] = [None] * wanted.rows_out
            for row, destinations in zip(stored, wanted.destinations, strict=True):
                for destination in destinations:
                    times[destination] = row.exact[place] if row and row.exact else None
            note_times(f"{called}__{name}" if full_names else name, times)


@dataclass(frozen=True)
class ForeignRead:
    """What a request wants of a view of the user's own.

    Parameters
    ----------
    entities
        The keys as bytes, each once.
    """

    wanted: Wanted
    stored: ForeignRows
    entities: list[bytes]

    @property
    def keys(self) -> list[bytes]:
        """The Redis keys to read."""
        return [self.stored.key(entity) for entity in self.entities]

    def require_ready(self) -> None:
        """Such rows have no versions: each says what it holds."""

    async def require_ready_async(self, client: AsyncRedis) -> None:
        """`require_ready` without blocking the event loop."""

    def rows(self, replies: Replies) -> list[ReadRow]:
        """The rows, in order; an expired one has its event time and no features."""
        rows: list[ReadRow] = []
        now = datetime.now(UTC)
        for entity, key in zip(self.entities, self.keys, strict=True):
            row = self.stored.read(entity, replies[key], self.wanted.names)
            if row is None:
                rows.append((None, None))
            else:
                values = None if self.stored.expired(row, now) else dict(row.values)
                rows.append((row.event_time, values))
        return rows

    def answer(
        self,
        replies: Replies,
        response: GetOnlineFeaturesResponse,
        full_names: bool,
        with_version: bool,
    ) -> None:
        """Add the features to a response, each value with its status."""
        self.wanted.fill(self.rows(replies), response, full_names, with_version)


def read_all(clients: RedisClients, reads: Sequence[Read]) -> Replies:
    """What Redis holds for all that a request wants, in one round trip.

    Raises
    ------
    StoreUnavailable
        If Redis does not answer in time.
    """
    return fetch(clients, _keys(reads), reads)


async def read_all_async(clients: RedisClients, reads: Sequence[Read]) -> Replies:
    """`read_all` without blocking the event loop."""
    return await fetch_async(clients, _keys(reads), reads)


def fetch(
    clients: RedisClients, keys: Sequence[str | bytes], views: Sequence[StoredRows]
) -> Replies:
    """What Redis holds under some keys, once the rows of their views may be read."""
    with clients.read_in_time() as client:
        for view in views:
            view.require_ready()
        replies: Any = client.mget(keys) if keys else []
    return dict(zip(keys, replies, strict=True))


async def fetch_async(
    clients: RedisClients, keys: Sequence[str | bytes], views: Sequence[StoredRows]
) -> Replies:
    """`fetch` without blocking the event loop."""
    async with clients.read_in_time_async() as client:
        for view in views:
            await view.require_ready_async(client)
        replies = await clients.mget_async(keys) if keys else []
    return dict(zip(keys, replies, strict=True))


def _keys(reads: Sequence[Read]) -> list[str | bytes]:
    return list(dict.fromkeys(key for read in reads for key in read.keys))


def read_row(codec: ValueCodec, names: Sequence[str], row: Row | None, is_expired: bool) -> ReadRow:
    """A stored row as Feast wants it; an expired one has its event time and no features."""
    if row is None:
        return None, None
    event_time = moment_of(row.event_time_us)
    if is_expired:
        return event_time, None
    return event_time, dict(zip(names, codec.values(row.vector, row.exact, names), strict=True))


def without_expired(rows: Sequence[ReadRow]) -> list[ReadRow]:
    """Rows of which those that have expired read as absent."""
    return [row if row[1] is not None else (None, None) for row in rows]


def mark_nulls(response: GetOnlineFeaturesResponse) -> None:
    """Say NULL_VALUE of each value that is missing in a row that is there.

    Feast's protocol has a status for it; Feast itself says PRESENT.
    """
    for vector in response.results:
        for place, value in enumerate(vector.values):
            if value.WhichOneof("val") is None and vector.statuses[place] == FieldStatus.PRESENT:
                vector.statuses[place] = FieldStatus.NULL_VALUE
