"""Reads what the online store holds for many users, in a thread, on connections of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from feature_store.errors import StoreUnavailable
from serving.prediction.stored_features import StoredFeatureSource

if TYPE_CHECKING:
    from redis import Redis

KEYS_PER_READ = 250


class OnlineRows:
    """Reads values of the online store; for threads, not for the event loop.

    Parameters
    ----------
    connect
        Gives a client; called when something is first read.
    """

    def __init__(self, connect: Callable[[], Redis]) -> None:
        self.connect = connect

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Read values; None where there is none.

        Raises
        ------
        StoreUnavailable
            If Redis does not answer in time.
        """
        from redis.exceptions import RedisError

        found: list[bytes | None] = []
        try:
            for start in range(0, len(keys), KEYS_PER_READ):
                values: Any = self._client.mget(keys[start : start + KEYS_PER_READ])
                found += values
                time.sleep(0)  # requests of one user wait for nothing but their turn
        except RedisError as error:
            raise StoreUnavailable(f"Redis did not read: {error}.") from error
        return found

    def close(self) -> None:
        """Close the connections."""
        if "_client" in vars(self):
            self._client.close()

    @cached_property
    def _client(self) -> Redis:
        return self.connect()


class UnrememberedFeatureSource(StoredFeatureSource):
    """A source of stored features for any thread: it keeps none in memory."""

    def _remember(self, entity: int, packed: bytes, event_time_us: int) -> None:
        pass
