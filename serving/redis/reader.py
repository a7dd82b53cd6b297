"""Reads online rows, many in one round trip, within the deadline."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from configs.errors import FTIError
from feature_store.definitions.schema import FeatureSchema
from feature_store.errors import StoreUnavailable
from feature_store.online.row_codec import Row, RowCodec, row_prefix
from serving.redis.breaker import Breaker
from serving.redis.busy_wait import BusyWait
from serving.redis.protocol import RedisAddress, RedisConnection, Take

logger = logging.getLogger(__name__)

LOOK_S = 0.05
PROBE = "probe"
"""A key that is never written: reading it shows that reads are answered in time."""


class OnlineReader:
    """Reads online values, many in one round trip.

    A read that is late closes the connection and opens the breaker: reads fail at once until a
    new connection has answered a read of our own in time. So a slow or stopped Redis costs a
    request at most one deadline, and a request is never the one that tries.

    Parameters
    ----------
    address
        Gives where Redis is; called before each attempt to connect.
    project
        What the keys begin with.
    deadline_s
        Longest wait for a reply.
    busy_wait
        Keeps the event loop awake for the reply to a lone read.
    """

    def __init__(
        self,
        address: Callable[[], RedisAddress],
        project: str,
        deadline_s: float,
        busy_wait: BusyWait | None = None,
    ) -> None:
        self.address = address
        self.busy_wait = busy_wait or BusyWait(limit_s=0.0)
        self.project = project
        self.deadline_s = deadline_s
        self.breaker = Breaker()
        self._problem: str | None = None
        self._connection: RedisConnection | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        """Whether reads are sent to Redis, or fail at once."""
        return self._connection is not None and self._connection.is_open

    async def start(self) -> None:
        """Connect, and keep connected from now on."""
        await self._try_to_connect()
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
            failed.set_exception(_cannot_be_reached())
            return failed
        return self._connection.send(("MGET", *keys))

    def ask_many(self, keys: Sequence[str], take: Take) -> None:
        """Read values as `get_many` does; ``take`` gets them, or the error, in a later turn.

        For a request that is alone the event loop stays awake: it would sleep until the reply.
        """
        if self._connection is None or not self._connection.is_open:
            asyncio.get_running_loop().call_soon(take, _cannot_be_reached())
            return
        self._connection.ask(("MGET", *keys), take)
        if self.busy_wait.is_alone:
            self.busy_wait.hold()

    async def _keep_connected(self) -> None:
        while True:
            await asyncio.sleep(self.breaker.pause_s if self.breaker.is_open else LOOK_S)
            if self.breaker.is_open:
                await self._try_to_connect()
            elif not self.is_connected:
                self._note("the connection is lost")

    async def _try_to_connect(self) -> None:
        try:
            await self._connect()
        except StoreUnavailable as error:
            self._note(str(error))
        else:
            self.breaker.close(time.monotonic())
            self._problem = None
            logger.info("online store: connected")

    def _note(self, problem: str) -> None:
        if self.breaker.is_open:
            self.breaker.try_failed()
        else:
            self.breaker.open(time.monotonic())
        if problem != self._problem:
            self._problem = problem
            logger.warning("online store: unavailable: %s", problem)

    async def _connect(self) -> None:
        try:
            address = await asyncio.to_thread(self.address)
        except FTIError as error:
            raise StoreUnavailable(f"Redis cannot be found: {error}") from error
        connection = await RedisConnection.open(address, self.deadline_s)
        try:
            await connection.send(("MGET", f"{self.project}:{PROBE}"))
        except StoreUnavailable:
            connection.close()
            raise
        self._connection = connection


def _cannot_be_reached() -> StoreUnavailable:
    return StoreUnavailable("Redis cannot be reached; trying to connect again.")


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
