"""Reads online rows, many in one round trip, within the deadline."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from configs.errors import FTIError
from feature_store.errors import StoreUnavailable
from feature_store.registry import FeatureSchema
from feature_store.rows import Row, RowCodec, row_prefix
from serving.redis_protocol import RedisAddress, RedisConnection

logger = logging.getLogger(__name__)

RECONNECT_PAUSE_S = 0.2


class OnlineReader:
    """Reads online values, many in one round trip.

    A read that is late closes the connection; until another one has been greeted by the server,
    reads fail at once. So a slow or stopped Redis costs each request at most one deadline.

    Parameters
    ----------
    address
        Gives where Redis is; asked until it knows.
    project
        What the keys begin with.
    deadline_s
        Longest wait for a reply.
    """

    def __init__(
        self,
        address: Callable[[], RedisAddress],
        project: str,
        deadline_s: float,
    ) -> None:
        self.address = address
        self.project = project
        self.deadline_s = deadline_s
        self._connection: RedisConnection | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        """Whether reads are sent to Redis, or fail at once."""
        return self._connection is not None and self._connection.is_open

    async def start(self) -> None:
        """Connect, and keep connected from now on."""
        with suppress(StoreUnavailable):
            await self._connect()
        self._keeper = asyncio.create_task(self._keep_connected())

    async def stop(self) -> None:
        """Close the connection."""
        if self._keeper is not None:
            self._keeper.cancel()
        if self._connection is not None:
            self._connection.close()

    def rows(self, schema: FeatureSchema) -> RowReader:
        """A reader of the rows of one version of a view."""
        return RowReader(self, row_prefix(self.project, schema), RowCodec(schema))

    def get_many(self, keys: Sequence[str]) -> asyncio.Future[list[bytes | None]]:
        """Read values in one round trip; None where there is none.

        The future fails with `StoreUnavailable` if Redis does not answer within the deadline.
        """
        if self._connection is None or not self._connection.is_open:
            failed = asyncio.get_running_loop().create_future()
            failed.set_exception(
                StoreUnavailable("Redis cannot be reached; trying to connect again.")
            )
            return failed
        return self._connection.send(("MGET", *keys))

    async def _keep_connected(self) -> None:
        was_connected = self.is_connected
        while True:
            if not self.is_connected:
                try:
                    await self._connect()
                except StoreUnavailable as error:
                    if was_connected:
                        logger.warning("online store: unavailable: %s", error)
                    was_connected = False
                else:
                    logger.info("online store: connected")
                    was_connected = True
            await asyncio.sleep(RECONNECT_PAUSE_S)

    async def _connect(self) -> None:
        try:
            address = await asyncio.to_thread(self.address)
        except FTIError as error:
            raise StoreUnavailable(f"Redis cannot be found: {error}") from error
        self._connection = await RedisConnection.open(address, self.deadline_s)


@dataclass(frozen=True)
class RowReader:
    """Reads rows of one version of a view.

    Parameters
    ----------
    values
        Reads what Redis holds under a key.
    prefix
        What stands before the entity in a key.
    codec
        Unpacks rows and refuses those of another schema.
    """

    values: OnlineReader
    prefix: str
    codec: RowCodec

    def key(self, entity: int) -> str:
        """Where Redis holds the row of an entity."""
        return f"{self.prefix}{entity}"

    async def read(self, entity: int) -> Row | None:
        """Read one row; None when there is none.

        Raises
        ------
        StoreUnavailable
            If Redis does not answer within the deadline.
        SchemaMismatch
            If the row was written under another definition, or is another entity's.
        """
        [packed] = await self.values.get_many([self.key(entity)])
        return None if packed is None else self.codec.decode(entity, packed)
