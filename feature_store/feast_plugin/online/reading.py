"""The part of an online request that concerns one view: which keys, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from feast import FeatureView
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.utils import (
    _get_entity_key_protos as entity_keys_of,
    _get_unique_entities as unique_entities,
    _populate_response_from_feature_data as fill_response,
)

from feature_store.definitions.exact import ExactValue
from feature_store.feast_plugin.conversion import ValueCodec
from feature_store.feast_plugin.online.exact_times import note_times
from feature_store.online.row_codec import Row, moment_of
from feature_store.online_store import OnlineStore

ReadRow = tuple[datetime | None, dict[str, Value] | None]
"""Event time and features of a row, as Feast wants them; no features where the row is no answer."""
Replies = Mapping[str, bytes | None]
"""Redis key to what it holds."""


@dataclass(frozen=True)
class ViewRead:
    """What a request wants of one view.

    Parameters
    ----------
    table
        The view as Feast knows it.
    names
        The features that are wanted.
    entities
        The keys of the entities, each once.
    destinations
        For each entity the rows of the answer that it fills, out of ``rows_out``.
    """

    table: FeatureView
    store: OnlineStore
    codec: ValueCodec
    names: list[str]
    entities: list[int]
    destinations: Sequence[list[int]] = ()
    rows_out: int = 0

    @property
    def keys(self) -> list[str]:
        """The Redis keys to read."""
        return [self.store.key(entity) for entity in self.entities]

    def rows(self, replies: Replies) -> list[ReadRow]:
        """The rows, in order; an expired one has its event time and no features."""
        return [self._read(row) for row in self._stored(replies)]

    def _stored(self, replies: Replies) -> list[Row | None]:
        return self.store.decode(self.entities, [replies[key] for key in self.keys])

    def _read(self, row: Row | None) -> ReadRow:
        is_expired = row is not None and self.store.expired(row)
        return read_row(self.codec, self.names, row, is_expired)

    def answer(
        self,
        replies: Replies,
        response: GetOnlineFeaturesResponse,
        full_names: bool,
        with_version: bool,
    ) -> None:
        """Add the features to a response, each value with its status."""
        stored = self._stored(replies)
        self.fill([self._read(row) for row in stored], response, full_names, with_version)
        called: str = self.table.projection.name_to_use()  # type: ignore[no-untyped-call]
        for name in self.codec.timestamps(self.names):
            place = self.codec.schema.exact_positions[name]
            times: list[ExactValue] = [None] * self.rows_out
            for row, destinations in zip(stored, self.destinations, strict=True):
                for destination in destinations:
                    times[destination] = row.exact[place] if row and row.exact else None
            note_times(f"{called}__{name}" if full_names else name, times)

    def fill(
        self,
        rows: Sequence[ReadRow],
        response: GetOnlineFeaturesResponse,
        full_names: bool,
        with_version: bool,
    ) -> None:
        """`answer`, given the rows."""
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


def read_row(codec: ValueCodec, names: Sequence[str], row: Row | None, is_expired: bool) -> ReadRow:
    """A stored row as Feast wants it; an expired one has its event time and no features."""
    if row is None:
        return None, None
    event_time = moment_of(row.event_time_us)
    if is_expired:
        return event_time, None
    return event_time, dict(zip(names, codec.values(row.vector, row.exact, names), strict=True))


def mark_nulls(response: GetOnlineFeaturesResponse) -> None:
    """Say NULL_VALUE of each value that is missing in a row that is there.

    Feast's protocol has a status for it; Feast itself says PRESENT.
    """
    for vector in response.results:
        for place, value in enumerate(vector.values):
            if value.WhichOneof("val") is None and vector.statuses[place] == FieldStatus.PRESENT:
                vector.statuses[place] = FieldStatus.NULL_VALUE


def whole_view_read(
    table: FeatureView,
    store: OnlineStore,
    codec: ValueCodec,
    entity_keys: Sequence[EntityKey],
    names: list[str] | None,
) -> ViewRead:
    """Read some features of a view for some entities, all of them when none are named."""
    wanted = names or [feature.name for feature in table.features]
    return ViewRead(table, store, codec, wanted, [codec.identity(key) for key in entity_keys])


def requested_view_read(
    table: FeatureView,
    store: OnlineStore,
    codec: ValueCodec,
    names: list[str],
    values: dict[str, list[Value]],
    join_keys: dict[str, str],
) -> ViewRead:
    """Read what a request wants of a view: ``values`` are its entities, column by column."""
    unique, destinations, rows_out = unique_entities(table, values, join_keys)
    entities = [codec.identity(key) for key in entity_keys_of(unique)]
    return ViewRead(table, store, codec, names, entities, destinations, rows_out)
