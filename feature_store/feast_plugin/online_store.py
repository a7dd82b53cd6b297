"""Our online store for Feast: one round trip a request, true statuses, every wait bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from weakref import WeakKeyDictionary

from feast import Entity, FeatureView
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.supported_async_methods import SupportedAsyncMethods
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from configs.settings import Settings
from feature_store import connect, online_store as ours
from feature_store.errors import StoreUnavailable
from feature_store.feast_plugin.activity import refuse_values
from feature_store.feast_plugin.connections import settings_with
from feature_store.feast_plugin.conversion import ValueCodec, WrittenRow
from feature_store.feast_plugin.definitions import known_view
from feature_store.feast_plugin.reading import (
    ReadRow,
    Replies,
    ViewRead,
    requested_view_read,
    whole_view_read,
)


class PackedOnlineStoreConfig(FeastConfigBaseModel):
    """The part ``online_store`` of ``feature_store.yaml``; the settings fill what is absent."""

    type: str = "feature_store.feast_plugin.online_store.PackedOnlineStore"
    url: str | None = None
    """A Redis URL; without it that of the settings, or the embedded server."""
    read_deadline_ms: float | None = None
    write_deadline_ms: float | None = None


class PackedOnlineStore(OnlineStore):
    """Packed rows in Redis: the very bytes that the API reads."""

    _versioned_read_supported = False  # saves Feast importing every other store to find out

    def __init__(self) -> None:
        self._stores: dict[tuple[str, str, timedelta | None, bool], ours.OnlineStore] = {}
        self._clients: dict[bool, Redis] = {}
        self._async_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncRedis] = (
            WeakKeyDictionary()
        )
        self._codecs: dict[str, ValueCodec] = {}
        self._loaded: Settings | None = None

    @property
    def async_supported(self) -> SupportedAsyncMethods:
        """Reads are asynchronous; writes are for pipelines."""
        return SupportedAsyncMethods(read=True, write=False)

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[WrittenRow],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows where they are newer than what is stored; a windowed view refuses them."""
        refuse_values(table.name)
        if data:
            store = self.store(config, table, writes=True)
            store.write(*self._codec(table).matrix(data))
        if progress:
            progress(len(data))

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[ReadRow]:
        """Read rows, in order; ``(None, None)`` where there is none or it has expired."""
        read = whole_view_read(
            table, self.store(config, table), self._codec(table), entity_keys, requested_features
        )
        return _without_expired(read.rows(self._replies(config, [read])))

    async def online_read_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[ReadRow]:
        """`online_read` without blocking the event loop."""
        read = whole_view_read(
            table, self.store(config, table), self._codec(table), entity_keys, requested_features
        )
        return _without_expired(read.rows(await self._replies_async(config, [read])))

    def store(
        self, config: RepoConfig, table: FeatureView, *, writes: bool = False
    ) -> ours.OnlineStore:
        """Our own store of a view's rows, with the deadline of reads or of writes.

        Raises
        ------
        SchemaMismatch
            If it is for reads, and this version of the view is still being filled.
        """
        name = (config.project, table.name, table.ttl or None, writes)
        if name not in self._stores:
            self._stores[name] = ours.OnlineStore(
                self._client(config, writes=writes),
                config.project,
                known_view(table.name).schema,
                ttl=table.ttl or None,
                write_batch_rows=self._settings(config).feature.online.write_batch_rows,
            )
        if not writes:
            with ours.translated("read"):
                self._stores[name].versions.require_ready()
        return self._stores[name]

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Delete the rows of views that are no more; refuse views that cannot be packed."""
        for table in tables_to_keep:
            if isinstance(table, FeatureView):
                known_view(table.name)
        self.teardown(config, tables_to_delete, entities_to_delete)

    def teardown(
        self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]
    ) -> None:
        """Delete the rows of views."""
        for table in tables:
            ours.delete_rows(self._client(config, writes=True), config.project, table.name)

    async def close(self) -> None:
        """Close the connections of the asynchronous reads."""
        for client in self._async_clients.values():
            await client.aclose()
        self._async_clients.clear()

    def _read_features_per_fv(
        self,
        config: RepoConfig,
        grouped_refs: list[tuple[FeatureView, list[str]]],
        join_key_values: dict[str, list[Value]],
        entity_name_to_join_key_map: dict[str, str],
        online_features_response: GetOnlineFeaturesResponse,
        full_feature_names: bool,
        include_feature_view_version_metadata: bool,
    ) -> None:
        # Feast's own version reads view by view and does not look at the age of a row.
        reads = self._reads(config, grouped_refs, join_key_values, entity_name_to_join_key_map)
        replies = self._replies(config, reads)
        options = full_feature_names, include_feature_view_version_metadata
        for read in reads:
            read.answer(replies, online_features_response, *options)

    async def _read_features_per_fv_async(
        self,
        config: RepoConfig,
        grouped_refs: list[tuple[FeatureView, list[str]]],
        join_key_values: dict[str, list[Value]],
        entity_name_to_join_key_map: dict[str, str],
        online_features_response: GetOnlineFeaturesResponse,
        full_feature_names: bool,
        include_feature_view_version_metadata: bool,
    ) -> None:
        reads = self._reads(config, grouped_refs, join_key_values, entity_name_to_join_key_map)
        replies = await self._replies_async(config, reads)
        options = full_feature_names, include_feature_view_version_metadata
        for read in reads:
            read.answer(replies, online_features_response, *options)

    def _reads(
        self,
        config: RepoConfig,
        wanted: Sequence[tuple[FeatureView, list[str]]],
        values: dict[str, list[Value]],
        join_keys: dict[str, str],
    ) -> list[ViewRead]:
        return [
            requested_view_read(
                table, self.store(config, table), self._codec(table), names, values, join_keys
            )
            for table, names in wanted
        ]

    def _replies(self, config: RepoConfig, reads: Sequence[ViewRead]) -> Replies:
        keys = list(dict.fromkeys(key for read in reads for key in read.keys))
        with ours.translated("read"):
            replies: Any = self._client(config, writes=False).mget(keys) if keys else []
        return dict(zip(keys, replies, strict=True))

    async def _replies_async(self, config: RepoConfig, reads: Sequence[ViewRead]) -> Replies:
        keys = list(dict.fromkeys(key for read in reads for key in read.keys))
        deadline_ms = self._deadline_ms(config, writes=False)
        try:
            with ours.translated("read"):
                async with asyncio.timeout(deadline_ms / 1000):
                    client = self._async_client(config)
                    replies: Any = await client.mget(keys) if keys else []
        except TimeoutError as error:
            raise StoreUnavailable(f"Redis did not answer within {deadline_ms:g} ms.") from error
        return dict(zip(keys, replies, strict=True))

    def _codec(self, table: FeatureView) -> ValueCodec:
        if table.name not in self._codecs:
            self._codecs[table.name] = ValueCodec(known_view(table.name).schema)
        return self._codecs[table.name]

    def _client(self, config: RepoConfig, *, writes: bool) -> Redis:
        if writes not in self._clients:
            deadline_ms = self._deadline_ms(config, writes=writes)
            self._clients[writes] = connect.redis_client(self._settings(config), deadline_ms)
        return self._clients[writes]

    def _async_client(self, config: RepoConfig) -> AsyncRedis:
        loop = asyncio.get_running_loop()
        if loop not in self._async_clients:
            deadline_ms = self._deadline_ms(config, writes=False)
            client = connect.async_redis_client(self._settings(config), deadline_ms)
            self._async_clients[loop] = client
        return self._async_clients[loop]

    def _deadline_ms(self, config: RepoConfig, *, writes: bool) -> float:
        given, settings = config.online_store, self._settings(config).feature.online
        if writes:
            return float(given.write_deadline_ms or settings.write_deadline_ms)
        return float(given.read_deadline_ms or settings.read_deadline_ms)

    def _settings(self, config: RepoConfig) -> Settings:
        if self._loaded is None:
            self._loaded = settings_with(redis_url=config.online_store.url)
        return self._loaded


def _without_expired(rows: Sequence[ReadRow]) -> list[ReadRow]:
    return [row if row[1] is not None else (None, None) for row in rows]
