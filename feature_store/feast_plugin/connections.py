"""Connections of the plug-in to PostgreSQL and Redis: ``feature_store.yaml``, else the settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

from feast.repo_config import RepoConfig
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from configs.settings import Settings, load_settings
from feature_store import connect
from feature_store.errors import StoreUnavailable
from feature_store.offline.postgres import BLOCK_BYTES, Postgres
from feature_store.offline_store import OfflineStore
from feature_store.online.deadline import deadline
from feature_store.online_store import translated


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


class RedisClients:
    """Clients of one Redis, each with its deadline; made when first asked for.

    Parameters
    ----------
    url
        A Redis URL; None for that of the settings, or the embedded server.
    read_deadline_ms, write_deadline_ms
        None for those of the settings.
    """

    def __init__(
        self,
        url: str | None = None,
        read_deadline_ms: float | None = None,
        write_deadline_ms: float | None = None,
    ) -> None:
        self.settings = settings_with(redis_url=url)
        online = self.settings.feature.online
        self.read_deadline_ms = read_deadline_ms or online.read_deadline_ms
        self.write_deadline_ms = write_deadline_ms or online.write_deadline_ms
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncRedis] = (
            WeakKeyDictionary()
        )
        self._idle: WeakKeyDictionary[asyncio.AbstractEventLoop, list[Any]] = WeakKeyDictionary()

    @cached_property
    def reads(self) -> Redis:
        """The client of reads that may block."""
        return connect.redis_client(self.settings, self.read_deadline_ms)

    @cached_property
    def writes(self) -> Redis:
        """The client of writes."""
        return connect.redis_client(self.settings, self.write_deadline_ms)

    @property
    def of_this_loop(self) -> AsyncRedis:
        """The client of reads in the running event loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._by_loop:
            client = connect.async_redis_client(self.settings, self.read_deadline_ms)
            self._by_loop[loop] = client
        return self._by_loop[loop]

    @contextmanager
    def read_in_time(self) -> Iterator[Redis]:
        """The client of reads, for one read.

        Raises
        ------
        StoreUnavailable
            If the read fails, or is not over within the deadline.
        """
        client = self.reads  # made before the clock starts
        with translated("read"), deadline(self.read_deadline_ms / 1000):
            yield client

    @asynccontextmanager
    async def read_in_time_async(self) -> AsyncIterator[AsyncRedis]:
        """`read_in_time` without blocking the event loop."""
        client = self.of_this_loop
        try:
            with translated("read"):
                async with asyncio.timeout(self.read_deadline_ms / 1000):
                    yield client
        except TimeoutError as error:
            raise StoreUnavailable(
                f"Redis did not read: no answer within {self.read_deadline_ms:g} ms. "
                "Does it run (`make status`)?"
            ) from error

    async def mget_async(self, keys: Sequence[str | bytes]) -> list[bytes | None]:
        """Read keys within the block of `read_in_time_async`, over a connection that is kept.

        The pool of the client looks whether a connection is sound before each call, which takes
        longer than the read. A kept one was sound when its last answer had been read; if the server
        has closed it since, the read is made once more over a new one.
        """
        from redis.exceptions import ConnectionError as Closed

        idle = self._idle.setdefault(asyncio.get_running_loop(), [])
        kept = idle.pop() if idle else None
        pool: Any = self.of_this_loop.connection_pool
        connection = kept or await pool.get_connection()
        try:
            try:
                return await _mget(connection, keys)
            except Closed:
                if kept is None:
                    raise
                return await _mget(connection, keys)
        finally:
            idle.append(connection)  # one that failed was closed, and connects when it is used

    async def close(self) -> None:
        """Close all connections but those of other event loops."""
        self._idle.pop(asyncio.get_running_loop(), None)
        client = self._by_loop.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()
        for name in ("reads", "writes"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()


async def _mget(connection: Any, keys: Sequence[str | bytes]) -> list[bytes | None]:
    await connection.send_packed_command(connection.pack_command("MGET", *keys), check_health=False)
    found: list[bytes | None] = await connection.read_response()
    return found
