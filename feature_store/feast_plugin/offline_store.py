"""Our offline store for Feast: point-in-time joins that do not explode, appends, pulls, logs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast import FeatureView, OnDemandFeatureView
from feast.data_source import DataSource
from feast.feature_logging import LoggingConfig, LoggingSource
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.utils import (
    _get_requested_feature_views_to_features_dict as features_by_view,
)

from feature_store import connect, offline_store as ours
from feature_store.definitions.horizon import refuse_future
from feature_store.definitions.windowed_view import ActivityView
from feature_store.errors import FeatureStoreError
from feature_store.feast_plugin import activity, connections, definitions
from feature_store.feast_plugin.asked_views import (
    entity_rows,
    refuse_missing_keys,
    refuse_same_names,
    requests_of,
)
from feature_store.feast_plugin.identity import (
    own_source,
    own_view,
    refuse_own_tables,
    stored_here,
)
from feature_store.feast_plugin.logging import PostgresLoggingDestination
from feature_store.feast_plugin.offline.appending import append
from feature_store.feast_plugin.offline.job import ArrowRetrievalJob, unrounded
from feature_store.feast_plugin.offline.pushed_rows import PushedRows, event_times
from feature_store.feast_plugin.offline.queries import (
    FromClause,
    batch_source,
    clause_of,
    column_types,
    quoted,
)
from feature_store.feast_plugin.offline.retrieval import (
    historical,
    in_utc,
)
from feature_store.feast_plugin.on_demand import PACKED_NAMES, as_text, pack
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline.postgres import BLOCK_BYTES


class PointInTimeOfflineStoreConfig(FeastConfigBaseModel):
    """The part ``offline_store`` of ``feature_store.yaml``."""

    type: str = "feature_store.feast_plugin.offline_store.PointInTimeOfflineStore"
    url: str | None = None
    """A PostgreSQL URL; without it that of the settings, or the embedded server."""
    block_bytes: int = BLOCK_BYTES
    """About how much of the stored rows a historical read holds at a time."""


class PointInTimeOfflineStore(OfflineStore):
    """Tables in PostgreSQL: those of our own offline store, and others for reading."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        **options: Any,
    ) -> ArrowRetrievalJob:
        """Join entity rows with the newest features at or before their times.

        ``entity_df`` is a frame, an SQL query, or None for every event between the options
        ``start_date`` and ``end_date``; ``filter_by_created_timestamp`` leaves out what the store
        had not learned by the asked time.
        """
        given = config.offline_store
        store = connections.offline_store(given.url, given.block_bytes)
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        wanted, _ = features_by_view(feature_refs, feature_views, on_demand)
        requests, packed = requests_of(wanted, store, full_feature_names)
        rows = entity_rows(entity_df, feature_views, requests, store, options)
        time_column = infer_event_timestamp_from_entity_df(dict(rows.dtypes))
        rows = as_text(in_utc(rows, time_column)) if on_demand else in_utc(rows, time_column)
        refuse_missing_keys(rows, requests)
        refuse_same_names(rows, requests)
        known = options.get("filter_by_created_timestamp", False)

        def read() -> pa.Table:
            table = historical(store.postgres, rows, time_column, requests, known=known)
            for view in packed:
                table = pack(table, view)
            return table

        return ArrowRetrievalJob(
            read=read,
            postgres=store.postgres,
            given=list(rows.columns),
            full_names=full_feature_names,
            on_demand=on_demand,
            about=RetrievalMetadata(
                features=_public(feature_refs),
                keys=[name for name in rows.columns if name != time_column],
                min_event_timestamp=rows[time_column].min(),
                max_event_timestamp=rows[time_column].max(),
            ),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> ArrowRetrievalJob:
        """Read the newest row of every entity with an event in ``[start_date, end_date)``."""
        store = connections.offline_store(config.offline_store.url)
        times = [timestamp_field, *([created_timestamp_column] if created_timestamp_column else [])]
        if windowed := activity.windowed_view(data_source, feature_name_columns):
            asked = (windowed, store.postgres, feature_name_columns, times, start_date, end_date)
            return ArrowRetrievalJob(
                lambda: activity.pull_events(*asked, newest=True), store.postgres
            )
        rows = clause_of(data_source, store).typed(store.postgres)
        source = replace(rows, event_time=timestamp_field, created_time=created_timestamp_column)
        columns = _columns(join_key_columns, feature_name_columns, times)
        source = source if join_key_columns else source.of_nobody()
        where = _usable(source, join_key_columns, start_date, end_date)
        query = source.newest(columns, join_key_columns, where)
        return _job(query, store)

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> ArrowRetrievalJob:
        """Read every row with an event in ``[start_date, end_date)``."""
        store = connections.offline_store(config.offline_store.url)
        times = [timestamp_field, *([created_timestamp_column] if created_timestamp_column else [])]
        if windowed := activity.windowed_view(data_source, feature_name_columns):
            asked = (windowed, store.postgres, feature_name_columns, times, start_date, end_date)
            return ArrowRetrievalJob(
                lambda: activity.pull_events(*asked, newest=False), store.postgres
            )
        rows = clause_of(data_source, store).typed(store.postgres)
        source = replace(rows, event_time=timestamp_field, created_time=created_timestamp_column)
        columns = _columns(join_key_columns, feature_name_columns, times)
        source = source if join_key_columns else source.of_nobody()
        where = source.between(start_date, end_date)
        if data_source.timestamp_field:  # of a view, not of a saved dataset or of logs
            where = _usable(source, join_key_columns, start_date, end_date)
        return _job(source.select(columns, where), store)

    @staticmethod
    def offline_write_batch(
        config: RepoConfig,
        feature_view: FeatureView,
        table: pa.Table,
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Append rows; those of our views only where they differ from the newest stored.

        Rows of a windowed view are events: each is stored once, and online rows follow from them.
        """
        store = connections.offline_store(config.offline_store.url)
        source, view = batch_source(feature_view), own_view(feature_view)
        if isinstance(view, ActivityView):
            activity.push_events(config, view, table)
        elif view is None:
            into = source.get_table_query_string()
            refuse_own_tables(into, store)
            times = event_times(table, source)
            refuse_future(times, datetime.now(UTC), f"rows of '{feature_view.name}'")
            append(store.postgres, into, table)
        else:
            rows = PushedRows.of(table, view, source, store.vocabularies)
            refuse_future(rows.matrix.times, datetime.now(UTC), f"rows of '{view.name}'")
            rows.note_keys(store.postgres, view.key)
            store.append(rows.matrix, view.entity, rows.created)
            if view is MODEL_VIEW:  # others have no single attributes that change
                changes = connect.profile_writer(connections.settings_of(config))
                changes.reconcile(rows.matrix.keys, rows.matrix.times)
        if progress:
            progress(table.num_rows)

    @staticmethod
    def write_logged_features(
        config: RepoConfig,
        data: pa.Table | Path,
        source: LoggingSource,
        logging_config: LoggingConfig,
        registry: BaseRegistry,
    ) -> None:
        """Append logs of served features to the table of a `PostgresLoggingDestination`."""
        if not isinstance(logging_config.destination, PostgresLoggingDestination):
            raise FeatureStoreError(
                f"Features are logged to a PostgresLoggingDestination, not to a "
                f"{type(logging_config.destination).__name__}."
            )
        logs = pq.read_table(data) if isinstance(data, Path) else data
        store = connections.offline_store(config.offline_store.url)
        refuse_own_tables(logging_config.destination.table, store)
        store.postgres.ingest(logging_config.destination.table, logs, "create_append")

    @staticmethod
    def ensure_monitoring_tables(config: RepoConfig) -> None:
        """Refuse ``feast monitor``."""
        raise FeatureStoreError(
            "`feast monitor` has no tables here. See `python -m feature_store stats`, and the room "
            "monitoring/ for drift."
        )

    def get_table_column_names_and_types_from_data_source(
        self, config: RepoConfig, data_source: DataSource
    ) -> Iterable[tuple[str, str]]:
        """Names of a source's columns, and their types as PostgreSQL calls them.

        Those of our views follow from the definition: their table may not exist yet.
        """
        store = connections.offline_store(config.offline_store.url)
        own = own_source(data_source)
        if isinstance(own, ActivityView):
            return activity.event_columns(own, store.postgres)
        if own is not None and stored_here(own, store):
            return definitions.column_types(own).items()
        return column_types(store.postgres, clause_of(data_source, store).rows)


def _public(refs: Sequence[str]) -> list[str]:
    return [ref for ref in refs if ref.rpartition(":")[2] not in PACKED_NAMES]


def _usable(
    source: FromClause, keys: Sequence[str], start: datetime | None, end: datetime | None
) -> list[str]:
    """Conditions of the rows that history may answer with: they have a key, and have happened."""
    now = datetime.now(UTC)
    passed = source.between(start, min(end or now, now))
    return [*passed, *(f"{quoted(key)} IS NOT NULL" for key in keys)]


def _columns(keys: list[str], features: list[str], times: list[str]) -> dict[str, str]:
    return {name: name for name in [*(keys or [DUMMY_ENTITY_ID]), *features, *times]}


def _job(query: str, store: ours.OfflineStore) -> ArrowRetrievalJob:
    return ArrowRetrievalJob(
        lambda: unrounded(store.postgres.query(query).to_arrow()), store.postgres
    )
