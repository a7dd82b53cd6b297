"""Databases of a test's own, with all tables: copies of one that is migrated once a server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import psycopg

from configs.settings import Settings
from infrastructure.embedded import postgres_url
from infrastructure.migrations import migrate


@contextmanager
def own_database(settings: Settings) -> Iterator[str]:
    """The URL of a migrated, empty database, which is dropped at the end."""
    server, name = postgres_url(settings), f"test_{uuid.uuid4().hex[:12]}"
    try:
        yield renew_database(server, name)
    finally:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def renew_database(server: str, name: str) -> str:
    """Make a database with all tables and no rows, in place of one that is there; give its URL."""
    template = _template(server)
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return _url_of(server, name)


@cache
def _template(server: str) -> str:
    """A database with all tables that nobody is connected to."""
    name = f"template_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    migrate(_url_of(server, name))
    return name


def _url_of(server: str, name: str) -> str:
    return f"{server.rpartition('/')[0]}/{name}"
