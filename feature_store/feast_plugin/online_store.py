"""Our online store for Feast: one round trip a request, true statuses, every wait bounded."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from feast import Entity, FeatureView, metrics
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.registry.base_registry import BaseRegistry
from feast.infra.supported_async_methods import SupportedAsyncMethods
from feast.online_response import OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.utils import _get_features as resolve_features

from feature_store import online_store as ours
from feature_store.errors import StoreUnavailable
from feature_store.feast_plugin.connections import RedisClients
from feature_store.feast_plugin.conversion import WrittenRow
from feature_store.feast_plugin.deletion import (
    holds_rows,
    refuse_other_projects,
    refuse_what_is_read,
)
from feature_store.feast_plugin.identity import is_foreign, known_view
from feature_store.feast_plugin.online.exact_times import ExactResponse, noted_times
from feature_store.feast_plugin.online.planned_response import PlannedResponse
from feature_store.feast_plugin.online.planning import Plan, Plans
from feature_store.feast_plugin.online.reading import (
    ReadRow,
    fetch,
    fetch_async,
    mark_nulls,
    read_all,
    read_all_async,
    without_expired,
)
from feature_store.feast_plugin.online.request_keys import RequestKeys
from feature_store.feast_plugin.online.stored_views import StoredViews


class PackedOnlineStoreConfig(FeastConfigBaseModel):
    """The part ``online_store`` of ``feature_store.yaml``; the settings fill what is absent."""

    type: str = "feature_store.feast_plugin.online_store.PackedOnlineStore"
    url: str | None = None
    """A Redis URL; without it that of the settings, or the embedded server."""
    read_deadline_ms: float | None = None
    write_deadline_ms: float | None = None
    delete_what_is_in_use: bool = False
    """Whether teardown and apply delete rows that a deployment reads, and other projects."""


class PackedOnlineStore(OnlineStore):
    """Packed rows in Redis: the very bytes that the API reads."""

    _versioned_read_supported = False  # saves Feast importing every other store to find out

    def __init__(self) -> None:
        self._views: dict[str, StoredViews] = {}
        self._clients: RedisClients | None = None
        self._plans: Plans | None = None

    @property
    def async_supported(self) -> SupportedAsyncMethods:
        """Both; writes run in a thread."""
        return SupportedAsyncMethods(read=True, write=True)

    async def initialize(self, config: RepoConfig) -> None:
        """Connect, so that the first asynchronous read need not; no matter if it fails."""
        with suppress(StoreUnavailable):
            async with self.clients(config).read_in_time_async() as client:
                pong: Any = client.ping()
                await pong

    async def close(self) -> None:
        """Close the connections; the next call opens others."""
        if self._clients is not None:
            await self._clients.close()

    def get_online_features(
        self, config: RepoConfig, features: Any, entity_rows: Any, registry: BaseRegistry,
        *args: Any, **options: Any,
    ) -> OnlineResponse:  # fmt: skip
        """Read features; each value has its status, and a missing one in a row is NULL_VALUE."""
        _serve_while_materializing(registry)
        asked = self.planned_request(config, features, entity_rows, registry, *args, **options)
        if asked is not None:
            return self._read_planned(config, *asked)
        features = _without_vectors(features, registry, config.project)
        with noted_times() as times:
            response = super().get_online_features(
                config, features, entity_rows, registry, *args, **options
            )
        mark_nulls(response.proto)
        return ExactResponse(response, times) if times else response

    async def get_online_features_async(
        self, config: RepoConfig, features: Any, entity_rows: Any, registry: BaseRegistry,
        *args: Any, **options: Any,
    ) -> OnlineResponse:  # fmt: skip
        """`get_online_features` without blocking the event loop."""
        _serve_while_materializing(registry)
        asked = self.planned_request(config, features, entity_rows, registry, *args, **options)
        if asked is not None:
            return await self.read_planned_async(config, *asked)
        features = _without_vectors(features, registry, config.project)
        with noted_times() as times:
            response = await super().get_online_features_async(
                config, features, entity_rows, registry, *args, **options
            )
        mark_nulls(response.proto)
        return ExactResponse(response, times) if times else response

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[WrittenRow],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows where they are newer than what is stored; a windowed view refuses them."""
        self.views(config).write(table, data)
        if progress:
            progress(len(data))

    async def online_write_batch_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[WrittenRow],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """`online_write_batch` in a thread."""
        await asyncio.to_thread(self.online_write_batch, config, table, data, progress)

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[ReadRow]:
        """Read rows, in order; ``(None, None)`` where there is none or it has expired."""
        read = self.views(config).whole(table, entity_keys, requested_features)
        return without_expired(read.rows(read_all(self.clients(config), [read])))

    async def online_read_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[ReadRow]:
        """`online_read` without blocking the event loop."""
        read = self.views(config).whole(table, entity_keys, requested_features)
        return without_expired(read.rows(await read_all_async(self.clients(config), [read])))

    def store(
        self, config: RepoConfig, table: FeatureView, *, writes: bool = False
    ) -> ours.OnlineStore:
        """Our own store of a view's rows, with the deadline of reads or of writes."""
        return self.views(config).store(table, writes=writes)

    def views(self, config: RepoConfig) -> StoredViews:
        """The rows of the project that ``feature_store.yaml`` names."""
        if config.project not in self._views:
            url = getattr(config.offline_store, "url", None)
            self._views[config.project] = StoredViews(config.project, self.clients(config), url)
        return self._views[config.project]

    def clients(self, config: RepoConfig) -> RedisClients:
        """The clients of the Redis that ``feature_store.yaml`` names."""
        if self._clients is None:
            given = config.online_store
            deadlines = given.read_deadline_ms, given.write_deadline_ms
            self._clients = RedisClients(given.url, *deadlines)
        return self._clients

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Delete the rows of views that are no more and that nobody reads.

        Raises
        ------
        ForeignView
            If a view says that it is one of ours, and is another.
        StillInUse
            If a deployment reads rows that are to be deleted; nothing is deleted then.
        """
        for table in tables_to_keep:
            if isinstance(table, FeatureView) and not is_foreign(table):
                known_view(table)
        self._delete(config, tables_to_delete)

    def teardown(
        self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]
    ) -> None:
        """Delete the online rows of views; refuse what a deployment or another project needs."""
        refuse_other_projects(config)
        self._delete(config, tables)

    def _delete(self, config: RepoConfig, tables: Sequence[FeatureView]) -> None:
        refuse_what_is_read(config, [table.name for table in tables if holds_rows(table)])
        self.views(config).delete(tables)

    def planned_request(
        self,
        config: RepoConfig,
        features: Any,
        entity_rows: Any,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> tuple[Plan, RequestKeys] | None:
        """The plan of a request and its keys; None where Feast's own way must answer it."""
        counts = metrics._config.online_features  # noqa: SLF001 - replaced when counting starts
        if counts or include_feature_view_version_metadata or not (entity_rows and features):
            return None
        if self._plans is None:
            self._plans = Plans(self.views(config))
        plan = self._plans.plan(registry, project, features, full_feature_names)
        keys = None if plan is None else plan.keys(entity_rows)
        return None if plan is None or keys is None else (plan, keys)

    def _read_planned(self, config: RepoConfig, plan: Plan, asked: RequestKeys) -> PlannedResponse:
        replies = fetch(self.clients(config), plan.redis_keys(asked), plan.views)
        return PlannedResponse(plan, asked, replies)

    async def read_planned_async(
        self, config: RepoConfig, plan: Plan, asked: RequestKeys
    ) -> PlannedResponse:
        """Read what a plan says, without blocking the event loop."""
        replies = await fetch_async(self.clients(config), plan.redis_keys(asked), plan.views)
        return PlannedResponse(plan, asked, replies)

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
        asked = grouped_refs, join_key_values, entity_name_to_join_key_map
        reads = self.views(config).requested(*asked)
        replies = read_all(self.clients(config), reads)
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
        asked = grouped_refs, join_key_values, entity_name_to_join_key_map
        reads = self.views(config).requested(*asked)
        replies = await read_all_async(self.clients(config), reads)
        options = full_feature_names, include_feature_view_version_metadata
        for read in reads:
            read.answer(replies, online_features_response, *options)


def _serve_while_materializing(registry: BaseRegistry) -> None:
    # Rows are replaced whole. Feast's setting of this name warns of registries that are not SQL.
    registry.serve_features_while_materializing = True


def _without_vectors(features: Any, registry: BaseRegistry, project: str) -> Any:
    """A service without ``precompute_online``: a row is one value already, read in one trip."""
    if not getattr(features, "precompute_online", False):
        return features
    resolve_features(registry, project, features, allow_cache=True)  # as it is in the registry
    plain = copy.copy(features)
    plain.precompute_online = False
    return plain
