"""Connections of the plug-in: to the URL that ``feature_store.yaml`` gives, else the settings'."""

from __future__ import annotations

from feast.repo_config import RepoConfig

from configs.settings import Settings, load_settings
from feature_store import connect
from feature_store.offline.postgres import BLOCK_BYTES, Postgres
from feature_store.offline_store import OfflineStore


def settings_with(database_url: str | None = None, redis_url: str | None = None) -> Settings:
    """The settings, with the URLs that are given in place of theirs."""
    urls = {"database_url": database_url, "redis_url": redis_url}
    return load_settings(None, **{name: url for name, url in urls.items() if url})


def settings_of(config: RepoConfig) -> Settings:
    """The settings, with the URLs of both stores that ``feature_store.yaml`` names."""
    parts = (config.offline_store, config.online_store)
    offline, online = (getattr(part, "url", None) for part in parts)
    return settings_with(database_url=offline, redis_url=online)


def offline_store(url: str | None, block_bytes: int = BLOCK_BYTES) -> OfflineStore:
    """Our offline store; starts the embedded server when no URL is configured."""
    store = connect.offline_store(settings_with(database_url=url))
    return OfflineStore(Postgres(store.postgres.url, block_bytes))


def postgres(url: str | None) -> Postgres:
    """The database; starts the embedded server when no URL is configured."""
    return offline_store(url).postgres
