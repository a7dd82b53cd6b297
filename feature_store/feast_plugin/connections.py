"""Connections of the plug-in: to the URL that ``feature_store.yaml`` gives, else the settings'."""

from __future__ import annotations

from configs.settings import Settings, load_settings
from feature_store import connect
from feature_store.offline_store import OfflineStore
from feature_store.postgres import Postgres


def settings_with(database_url: str | None = None, redis_url: str | None = None) -> Settings:
    """The settings, with the URLs that are given in place of theirs."""
    urls = {"database_url": database_url, "redis_url": redis_url}
    return load_settings(None, **{name: url for name, url in urls.items() if url})


def offline_store(url: str | None) -> OfflineStore:
    """Our offline store; starts the embedded server when no URL is configured."""
    return connect.offline_store(settings_with(database_url=url))


def postgres(url: str | None) -> Postgres:
    """The database; starts the embedded server when no URL is configured."""
    return offline_store(url).postgres
