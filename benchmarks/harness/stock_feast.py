"""Feast as it comes, for comparison: its own Redis and PostgreSQL stores and a file registry."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from urllib.parse import urlparse

from feast import FeatureStore, FeatureView, RepoConfig
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
)

from configs.settings import Settings
from feature_store.feast_plugin.definitions import feast_entities, feast_source, feast_view
from feature_store.feature_definitions import MODEL_VIEW

SOURCE = PostgreSQLSource(
    name="readable_rows",
    table="readable_rows",
    timestamp_field="event_timestamp",
    created_timestamp_column="created_timestamp",
)
REFERENCES = [f"{MODEL_VIEW.name}:{name}" for name in MODEL_VIEW.schema.names]
UNINDEXED = [f"readable_rows:{name}" for name in MODEL_VIEW.schema.names]


def plug_in(settings: Settings, *, unindexed: bool = False) -> FeatureStore:
    """Feast over our stores, as ``feature_store.yaml`` says, on the benchmark's servers.

    Parameters
    ----------
    unindexed
        Whether it knows the table ``readable_rows`` too, as one that is not ours.
    """
    package = "feature_store.feast_plugin"
    store = FeatureStore(
        config=RepoConfig(
            project=settings.feature.project,
            provider="local",
            registry={
                "registry_store_type": f"{package}.registry_store.PostgresRegistryStore",
                "path": settings.database_url,
            },
            offline_store={
                "type": f"{package}.offline_store.PointInTimeOfflineStore",
                "url": settings.database_url,
            },
            online_store={
                "type": f"{package}.online_store.PackedOnlineStore",
                "url": settings.redis_url,
            },
            batch_engine={"type": f"{package}.batch_engine.PackedMaterializationEngine"},
            entity_key_serialization_version=3,
        )
    )
    entities, source = feast_entities(MODEL_VIEW), feast_source(MODEL_VIEW)
    view = feast_view(MODEL_VIEW, entities, source)
    foreign = FeatureView(
        name=SOURCE.name, entities=entities, schema=view.schema, source=SOURCE, online=False
    )
    store.apply([*entities, source, view, *[foreign] * unindexed])
    return store


def stock(settings: Settings, folder: Path, ttl: timedelta | None = None) -> FeatureStore:
    """Feast's own stores on the same servers; rows come from the table ``readable_rows``."""
    database, redis = urlparse(settings.database_url or ""), urlparse(settings.redis_url or "")
    server = f"{redis.hostname}:{redis.port},password={redis.password},db=1"
    store = FeatureStore(
        config=RepoConfig(
            project="stock",
            provider="local",
            registry=str(folder / f"registry_{ttl}.db"),
            offline_store={
                "type": "postgres",
                "host": database.hostname,
                "port": database.port,
                "database": database.path.strip("/"),
                "user": database.username,
                "password": database.password,
                "sslmode": "disable",
            },
            online_store={"type": "redis", "connection_string": server},
            entity_key_serialization_version=3,
        )
    )
    entities = feast_entities(MODEL_VIEW)
    ours = feast_view(MODEL_VIEW, entities, feast_source(MODEL_VIEW), ttl)
    view = FeatureView(
        name=ours.name, entities=entities, schema=ours.schema, source=SOURCE, ttl=ours.ttl
    )
    store.apply([*entities, SOURCE, view])
    return store
