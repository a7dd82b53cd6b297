"""Reads a few rows of PostgreSQL from an event loop, within a deadline."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row

from configs.errors import FTIError
from feature_store.errors import StoreUnavailable
from feature_store.offline.postgres import unavailable

PAUSE_S = 1.0
"""So long after a failure nobody waits for PostgreSQL again."""

Rows = list[dict[str, Any]]
Connection = psycopg.AsyncConnection[DictRow]


class PostgresReader:
    """One connection of its own, opened when it is first needed and replaced when it breaks.

    Parameters
    ----------
    url
        Gives where PostgreSQL is; asked in a thread, until it knows.
    deadline_s
        Longest wait for an answer, connecting included.
    """

    def __init__(self, url: Callable[[], str], deadline_s: float) -> None:
        self.url = url
        self.deadline_s = deadline_s
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()
        self._failed: tuple[float, str] | None = None

    async def rows(self, query: str, parameters: Mapping[str, Any]) -> Rows:
        """Read the rows of a query.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL does not answer within the deadline, or did not a moment ago.
        """
        if self._failed and time.monotonic() - self._failed[0] < PAUSE_S:
            raise StoreUnavailable(self._failed[1])
        try:
            async with self._lock:
                return await self._read(query, parameters)
        except (psycopg.Error, OSError, FTIError) as error:
            raise await self._give_up(error) from error

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _read(self, query: str, parameters: Mapping[str, Any]) -> Rows:
        if self._failed and time.monotonic() - self._failed[0] < PAUSE_S:
            raise OSError(self._failed[1])  # it failed while this request waited for its turn
        loop = asyncio.get_running_loop()
        if self._connection is None or self._connection.closed:
            async with asyncio.timeout(self.deadline_s):
                self._connection = await self._connect()
        # Not asyncio.timeout: psycopg would ask the server to cancel the query, and wait for it.
        timer = loop.call_later(self.deadline_s, _hang_up, self._connection)
        try:
            cursor = await self._connection.execute(query, parameters)
            return await cursor.fetchall()
        finally:
            timer.cancel()

    async def _connect(self) -> Connection:
        url = await asyncio.to_thread(self.url)
        return await psycopg.AsyncConnection.connect(
            url, autocommit=True, application_name="fti lookups", row_factory=dict_row
        )

    async def _give_up(self, error: Exception) -> StoreUnavailable:
        if not self._failed or time.monotonic() - self._failed[0] >= PAUSE_S:
            if not str(error):
                error = TimeoutError(f"no answer within {self.deadline_s:g} s")
            self._failed = time.monotonic(), str(unavailable(error, "PostgreSQL does not answer"))
        await self.close()
        return StoreUnavailable(self._failed[1])


def _hang_up(connection: Connection) -> None:
    """End a connection whose server does not answer: the query fails at once."""
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
