"""Databases of a test's own, with all tables: copies of one that is migrated once a server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal

import psycopg

from configs.settings import Settings
from infrastructure.embedded import admin_url, as_owner, postgres_url
from infrastructure.migrations import migrate
from infrastructure.migrations.grants import OWNER
from infrastructure.servers.roles import give_database


@contextmanager
def own_database(settings: Settings) -> Iterator[str]:
    """The URL of a migrated, empty database, which is dropped at the end."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    try:
        yield renew_database(settings, name)
    finally:
        with psycopg.connect(admin_url(settings), autocommit=True) as admin:
            admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def renew_database(settings: Settings, name: str) -> str:
    """Make a database with all tables and no rows, in place of one that is there; give its URL.

    The tables belong to their owner; the URL is that of the pipelines, as programs have it.
    """
    template = _template(admin_url(settings), postgres_url(as_owner(settings)))
    with psycopg.connect(admin_url(settings), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {OWNER}")
        give_database(admin, name)
    return database_of(postgres_url(settings), name)


def url_for(settings: Settings, url: str, role: Literal["owner", "api", "admin"]) -> str:
    """The URL of a test's database for another role of the same server."""
    server = settings.model_copy(update={"database_url": None})
    if role == "admin":
        return database_of(admin_url(server), url.rpartition("/")[2])
    as_role = server.model_copy(update={"database_role": role})
    return database_of(postgres_url(as_role), url.rpartition("/")[2])


@cache
def _template(admin: str, owner: str) -> str:
    """A database with all tables that nobody is connected to."""
    name = f"template_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} OWNER {OWNER}")
    migrate(database_of(owner, name))
    return name


def database_of(url: str, name: str) -> str:
    """The URL of another database of a server."""
    return f"{url.rpartition('/')[0]}/{name}"
