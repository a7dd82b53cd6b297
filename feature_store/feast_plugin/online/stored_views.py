"""What one Feast project has in Redis: of each view its rows, and what turns them into values."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from feast import FeatureView
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.utils import (
    _get_entity_key_protos as entity_keys_of,
    _get_unique_entities as unique_entities,
)

from feature_store import online_store as ours
from feature_store.definitions.horizon import refuse_future
from feature_store.feast_plugin.activity import refuse_values
from feature_store.feast_plugin.connections import RedisClients, offline_store
from feature_store.feast_plugin.conversion import ValueCodec, WrittenRow
from feature_store.feast_plugin.deletion import holds_rows
from feature_store.feast_plugin.identity import is_foreign, known_view
from feature_store.feast_plugin.online.foreign_rows import (
    ForeignRows,
    delete_foreign_rows,
    key_bytes,
)
from feature_store.feast_plugin.online.reading import ForeignRead, Read, ViewRead, Wanted
from feature_store.offline.entity_keys import note_keys


class StoredViews:
    """The online rows of a Feast project.

    Parameters
    ----------
    project
        Its name.
    clients
        Of the Redis that holds the rows.
    database_url
        Where keys that are no whole numbers are noted; None for the one of the settings.
    """

    def __init__(self, project: str, clients: RedisClients, database_url: str | None) -> None:
        self.project, self.clients = project, clients
        self._database_url = database_url
        self._stores: dict[tuple[str, timedelta | None, bool], ours.OnlineStore] = {}
        self._codecs: dict[str, ValueCodec] = {}

    def store(self, table: FeatureView, *, writes: bool = False) -> ours.OnlineStore:
        """Our own store of a view's rows, with the deadline of reads or of writes."""
        view = known_view(table)
        name = (view.name, table.ttl or None, writes)
        if name not in self._stores:
            self._stores[name] = ours.OnlineStore(
                self.clients.writes if writes else self.clients.reads,
                self.project,
                view.schema,
                ttl=table.ttl or None,
                write_batch_rows=self._batch_rows,
            )
        return self._stores[name]

    def codec(self, table: FeatureView) -> ValueCodec:
        """What turns rows of a view of ours into values."""
        view = known_view(table)
        if view.name not in self._codecs:
            is_open = bool(view.schema.open_features)
            words = offline_store(self._database_url).vocabularies if is_open else None
            self._codecs[view.name] = ValueCodec(view.schema, words)
        return self._codecs[view.name]

    def whole(self, table: FeatureView, keys: Sequence[EntityKey], names: list[str] | None) -> Read:
        """A read of some features of a view for some keys, of all when none are named."""
        named = names or [feature.name for feature in table.features]
        return self._read(Wanted(table, named), keys)

    def requested(
        self,
        wanted: Sequence[tuple[FeatureView, list[str]]],
        values: dict[str, list[Value]],
        join_keys: dict[str, str],
    ) -> list[Read]:
        """Reads of what a request wants; ``values`` are its entities, column by column."""
        reads = []
        for table, names in wanted:
            unique, destinations, rows_out = unique_entities(table, values, join_keys)
            features = Wanted(table, names, destinations, rows_out)
            reads.append(self._read(features, entity_keys_of(unique)))
        return reads

    def _read(self, wanted: Wanted, keys: Sequence[EntityKey]) -> Read:
        table = wanted.table
        if is_foreign(table):
            rows = ForeignRows(self.project, table)
            return ForeignRead(wanted, rows, [key_bytes(key) for key in keys])
        codec = self.codec(table)
        return ViewRead(wanted, self.store(table), codec, [codec.identity(key) for key in keys])

    def write(self, table: FeatureView, rows: list[WrittenRow]) -> None:
        """Write rows where they are newer than what is stored; a windowed view refuses them."""
        if is_foreign(table):
            if rows:
                ForeignRows(self.project, table).write(self.clients.writes, rows, self._batch_rows)
            return
        refuse_values(known_view(table))
        if rows:
            matrix, created = self.codec(table).matrix(rows)
            refuse_future(matrix.times, datetime.now(UTC), f"rows of '{table.name}'")
            self._note_keys(table, rows)
            self.store(table, writes=True).write(matrix, created)

    def _note_keys(self, table: FeatureView, rows: Sequence[WrittenRow]) -> None:
        codec = self.codec(table)
        if (entity := codec.schema.key) is not None:
            texts = {codec.identity(key): entity.text(codec.key(key)) for key, *_ in rows}
            with offline_store(self._database_url).postgres.transaction() as connection:
                given = np.array(list(texts), dtype=np.int64)
                note_keys(connection, entity, given, list(texts.values()))

    def delete(self, tables: Sequence[Any]) -> None:
        """Delete the rows of views, of ours and of the user's own."""
        own = [table.name for table in tables if holds_rows(table)]
        for name in own:
            ours.delete_rows(self.clients.writes, self.project, name)
        others = [table.name for table in tables if not holds_rows(table)]
        if others:
            delete_foreign_rows(self.clients.writes, self.project, others)

    @property
    def _batch_rows(self) -> int:
        return self.clients.settings.feature.online.write_batch_rows
