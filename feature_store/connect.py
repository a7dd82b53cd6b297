"""Builds the stores from the settings, and the few functions that people call directly."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from configs.settings import ROOT, Settings, load_settings
from configs.sources import FileReading, HttpReading, SqlReading
from feature_store.errors import FeatureStoreError, SourceError
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline_store import OfflineStore
from feature_store.online_store import OnlineStore
from feature_store.postgres import Postgres
from feature_store.registry import FeatureSchema
from feature_store.sources.files import FileSource
from feature_store.sources.http import HttpSource
from feature_store.sources.http_client import ApiClient
from feature_store.sources.port import Source
from feature_store.sources.reference import ReferenceSource
from feature_store.sources.sql import SqlSource
from infrastructure.embedded import postgres_url, redis_url

if TYPE_CHECKING:
    import pandas as pd
    from redis import Redis
    from redis.asyncio import Redis as AsyncRedis

SOURCE_CONNECT_TIMEOUT_S = 10


def ttl(settings: Settings) -> timedelta | None:
    """Age beyond which a row of the view reads as absent, or None."""
    days = settings.feature.ttl_days
    return None if days is None else timedelta(days=days)


def offline_store(settings: Settings) -> OfflineStore:
    """The PostgreSQL store; starts the embedded server when no URL is configured."""
    return OfflineStore(Postgres(postgres_url(settings)))


def raw_source(settings: Settings, environment: Mapping[str, str] = os.environ) -> Source:
    """Where raw rows come from, as ``feature.source`` says.

    Raises
    ------
    SourceError
        If a variable that the settings name is not set.
    """
    config = settings.feature.source
    name = config.name or config.type
    source = _source(config, name, settings, environment, is_counted=config.key_column is None)
    if config.reference is None:
        return source
    table = config.reference.table
    catalogue = _source(table, "catalogue", settings, environment, is_counted=False)
    return ReferenceSource(source, catalogue, config.reference.on)


def _source(
    config: FileReading | SqlReading | HttpReading,
    name: str,
    settings: Settings,
    environment: Mapping[str, str],
    *,
    is_counted: bool,
) -> Source:
    if isinstance(config, FileReading):
        return FileSource(config, ROOT, environment, name=name, is_counted=is_counted)
    if isinstance(config, HttpReading):
        return HttpSource(config, lambda: ApiClient(config, environment), name=name)
    url = postgres_url(settings) if config.url_env is None else environment.get(config.url_env)
    if not url:
        raise SourceError(
            f"The variable {config.url_env} is not set; 'url_env' says that it holds the URL of "
            f"the source '{name}' (postgresql://…)."
        )
    return SqlSource(Postgres(_impatient(url)), config, name=name)


def _impatient(url: str) -> str:
    """The URL of a database that may be out of reach: libpq would wait for it without end."""
    if "connect_timeout=" in url or "://" not in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}connect_timeout={SOURCE_CONNECT_TIMEOUT_S}"


def redis_client(settings: Settings, deadline_ms: float) -> Redis:
    """A client whose every wait ends; starts the embedded server when no URL is configured."""
    from redis import Redis

    seconds = deadline_ms / 1000
    return Redis.from_url(
        redis_url(settings), socket_timeout=seconds, socket_connect_timeout=seconds, retry=None
    )


def async_redis_client(settings: Settings, deadline_ms: float) -> AsyncRedis:
    """`redis_client` for an event loop."""
    from redis.asyncio import Redis as AsyncRedis

    seconds = deadline_ms / 1000
    return AsyncRedis.from_url(
        redis_url(settings), socket_timeout=seconds, socket_connect_timeout=seconds, retry=None
    )


def online_store(
    settings: Settings,
    deadline_ms: float | None = None,
    schema: FeatureSchema = MODEL_VIEW.schema,
) -> OnlineStore:
    """The Redis store; starts the embedded server when no URL is configured.

    Parameters
    ----------
    deadline_ms
        Longest wait for an answer; ``feature.online.write_deadline_ms`` when None.
    schema
        The version of a view that it reads and writes.
    """
    online = settings.feature.online
    return OnlineStore(
        redis_client(settings, deadline_ms or online.write_deadline_ms),
        settings.feature.project,
        schema,
        ttl=ttl(settings),
        write_batch_rows=online.write_batch_rows,
    )


def get_training_data(
    feature_refs: Sequence[str],
    label_column: str,
    start_date: datetime | str,
    end_date: datetime | str,
) -> tuple[pd.DataFrame, pd.Series]:
    """Features as of each label's time, and the labels, for label times in ``[start, end)``.

    Parameters
    ----------
    feature_refs
        ``["user_features:age", …]``; ``["user_features:*"]`` for all.
    label_column
        Name of the label, as in the feature settings.
    start_date, end_date
        UTC unless they say otherwise; ``"2020-01-01"`` works too.

    Returns
    -------
    features, labels
        A frame ``(n, p)`` of decoded values (words, whole numbers, NaN or None for missing) and a
        series ``(n,)`` of 0 and 1, both indexed by the entity key.

    Raises
    ------
    FeatureStoreError
        If a feature or the label is unknown, or the range holds no labels.
    """
    from configs.settings import utc_time
    from feature_store.training_data import decoded_frame, training_rows

    settings = load_settings()
    known = settings.feature.source.label_column
    if label_column != known:
        raise FeatureStoreError(f"Label '{label_column}' is not known. Known: {known or 'none'}.")
    schema = MODEL_VIEW.schema.select(feature_names(feature_refs))
    rows = training_rows(
        offline_store(settings),
        schema,
        MODEL_VIEW.entity,
        utc_time(start_date),
        utc_time(end_date),
        ttl=ttl(settings),
    )
    return decoded_frame(rows, MODEL_VIEW.entity, label_column)


def get_online_features(
    entity_id: int, features: Sequence[str]
) -> Mapping[str, int | float | str | None]:
    """Newest values of some features of one entity, from Redis.

    Parameters
    ----------
    entity_id
        For example a ``user_id``.
    features
        Names, with or without the view: ``"age"``, ``"user_features:age"``, ``"user_features:*"``.

    Returns
    -------
    Name to value: words for categories, whole numbers where declared, None for missing.

    Raises
    ------
    UnknownFeature, EntityNotFound, StoreUnavailable
        If a name is unknown, there is no row, or Redis does not answer within the deadline.
    """
    names = feature_names(features)
    settings = load_settings()
    store = online_store(settings, settings.feature.online.read_deadline_ms)
    decoded = store.schema.decode(store.read(entity_id).vector)
    return {name: decoded[name] for name in names}


def feature_names(feature_refs: Sequence[str]) -> list[str]:
    """Names out of references such as ``user_features:age``; ``*`` stands for all.

    Raises
    ------
    UnknownFeature
        If the view or the feature is not defined.
    """
    names: list[str] = []
    for reference in feature_refs:
        view, _, name = reference.rpartition(":")
        if view not in {"", MODEL_VIEW.name}:
            raise MODEL_VIEW.schema.unknown(reference)
        names += MODEL_VIEW.schema.names if name == "*" else [name]
    for name in names:
        MODEL_VIEW.schema.position(name)
    return names
