"""Builds the stores, sources and streams from the settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from configs.feature_config import REDIS
from configs.settings import ROOT, Settings
from configs.sources import FileReading, HttpReading, SqlReading
from feature_store.definitions.engine import Engine
from feature_store.definitions.schema import FeatureSchema
from feature_store.definitions.window_plan import ActivityPlan
from feature_store.errors import SourceError
from feature_store.feature_definitions import MODEL_VIEW, USER_ACTIVITY
from feature_store.offline.events import ActivityEvent
from feature_store.offline.postgres import Postgres
from feature_store.offline_store import OfflineStore
from feature_store.online.deadline import bounded, bounded_by_cancelling
from feature_store.online_store import OnlineStore
from feature_store.profiles.writer import ProfileChange, ProfileWriter
from feature_store.sources.files import FileSource
from feature_store.sources.http import HttpSource
from feature_store.sources.http_client import ApiClient
from feature_store.sources.port import Source
from feature_store.sources.reference import ReferenceSource
from feature_store.sources.sql import SqlSource
from feature_store.stream.consumer import StreamConsumer, Writer
from feature_store.stream.events import EventParser
from feature_store.stream.kafka.client import KafkaAddress, client_options
from feature_store.stream.kafka.connection import KafkaConnection
from feature_store.stream.port import ConsumerGroup, DeadLetters, EventStream
from feature_store.stream.redis.dead_letters import RedisDeadLetters
from feature_store.stream.redis.event_stream import RedisEventStream
from feature_store.stream.redis.group import RedisConsumerGroup
from feature_store.windows.writer import ActivityWriter
from infrastructure.embedded import postgres_url, redis_url

if TYPE_CHECKING:
    from redis import Redis
    from redis.asyncio import Redis as AsyncRedis

SOURCE_CONNECT_TIMEOUT_S = 10


def ttl(settings: Settings) -> timedelta | None:
    """Age beyond which a row of the view reads as absent, or None."""
    days = settings.feature.ttl_days
    return None if days is None else timedelta(days=days)


def view_ttl(settings: Settings, schema: FeatureSchema) -> timedelta | None:
    """Age beyond which a row of any view reads as absent: windowed views say it themselves."""
    return ActivityPlan(schema).ttl if schema.is_windowed else ttl(settings)


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
    """A client whose every call ends; starts the embedded server when no URL is configured."""
    from redis import Redis

    seconds = deadline_ms / 1000
    url = redis_url(settings)
    return bounded(
        Redis.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds, retry=None)
    )


def async_redis_client(settings: Settings, deadline_ms: float) -> AsyncRedis:
    """`redis_client` for an event loop."""
    from redis.asyncio import Redis as AsyncRedis

    seconds = deadline_ms / 1000
    url = redis_url(settings)
    return bounded_by_cancelling(
        AsyncRedis.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds, retry=None)
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
        Longest that a call may take; ``feature.online.write_deadline_ms`` when None.
    schema
        The version of a view that it reads and writes.
    """
    online = settings.feature.online
    return OnlineStore(
        redis_client(settings, deadline_ms or online.write_deadline_ms),
        settings.feature.project,
        schema,
        ttl=view_ttl(settings, schema),
        write_batch_rows=online.write_batch_rows,
    )


def activity_writer(settings: Settings) -> ActivityWriter:
    """What stores events and writes the online rows that follow from them."""
    online = online_store(settings, schema=USER_ACTIVITY.schema)
    return ActivityWriter(offline_store(settings).postgres, online)


def profile_writer(settings: Settings) -> ProfileWriter:
    """What lays profile changes on the rows of the model's view."""
    return ProfileWriter(Engine(MODEL_VIEW), offline_store(settings), online_store(settings))


def event_stream(settings: Settings) -> EventStream:
    """Where events are appended for the consumers."""
    stream = settings.feature.stream
    if stream.origin != REDIS:
        return kafka_connection(settings).stream
    client = redis_client(settings, settings.feature.online.write_deadline_ms)
    return RedisEventStream(
        client,
        settings.feature.project,
        max_backlog=stream.max_backlog,
        deadline_s=stream.append_deadline_ms / 1000,
    )


def consumer_group(settings: Settings, name: str) -> ConsumerGroup:
    """A consumer's part in the group, under a name that no other ever has."""
    stream = settings.feature.stream
    if stream.origin != REDIS:
        return kafka_connection(settings).consumer_group(name)
    client = redis_client(settings, settings.feature.online.write_deadline_ms)
    return RedisConsumerGroup(client, settings.feature.project, name, stream.max_dead_letters)


def dead_letters(settings: Settings) -> DeadLetters:
    """The events that could not be applied."""
    if settings.feature.stream.origin != REDIS:
        return kafka_connection(settings).dead_letters
    client = redis_client(settings, settings.feature.online.write_deadline_ms)
    return RedisDeadLetters(client, settings.feature.project)


def kafka_connection(
    settings: Settings, environment: Mapping[str, str] = os.environ
) -> KafkaConnection:
    """The topic that ``feature.stream.origin`` names."""
    stream = settings.feature.stream
    return KafkaConnection(
        KafkaAddress.of(stream.origin),
        stream.kafka.group or f"{settings.feature.project}-features",
        client_options(stream.kafka.options, stream.kafka.options_env, environment),
        offline_store(settings).postgres,
        stream,
    )


def stream_consumer(settings: Settings, name: str) -> StreamConsumer:
    """A consumer of the events, under a name that no other ever has."""
    stream, group = settings.feature.stream, consumer_group(settings, name)
    writers: dict[type, Writer] = {
        ProfileChange: profile_writer(settings),
        ActivityEvent: activity_writer(settings),
    }
    return StreamConsumer(
        *(group, EventParser(MODEL_VIEW, USER_ACTIVITY.key), writers, stream),
        max_ahead=settings.feature.max_ahead,
        clock=lambda: datetime.now(UTC),
    )
