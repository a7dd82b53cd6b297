"""The stored features of a request: fresh, or the best that can be had, and then flagged."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from feature_store.errors import SchemaMismatch, StoreUnavailable
from feature_store.online.row_codec import HEADER_BYTES
from monitoring.log.record import Flags
from serving.errors import UnknownEntity
from serving.redis.reader import RowReader

_OUTDATED, _UNAVAILABLE = int(Flags.FEATURES_OUTDATED), int(Flags.FEATURES_UNAVAILABLE)
_NOT_STORED = int(Flags.FEATURES_NOT_STORED)
_CACHED, _STALE = int(Flags.FEATURES_CACHED), int(Flags.FEATURES_STALE)


class StoredFeatures(NamedTuple):
    """A vector of ``p`` packed float32, the time of its event (None: none), and what is wrong.

    ``flags`` are those of `Flags` as a whole number, with which reckoning is ten times as quick.
    """

    packed: bytes
    event_time_us: int | None
    flags: int

    @property
    def vector(self) -> NDArray[np.float32]:
        """The vector ``(p,)``, read-only."""
        return np.frombuffer(self.packed, "<f4")


class StoredFeatureSource:
    """Gives each user's stored features of one version, whatever happens to the online store.

    When it does not answer, the last features seen by this process are used, and for users it
    has not seen everything is missing: models are trained to be sensible there.

    Parameters
    ----------
    reader
        Of the online store.
    entity_name
        What the key is called, for messages.
    nothing
        The vector ``(p,)`` in which everything is missing.
    ttl
        Age of the event beyond which stored features are taken as missing; None for never.
    remembered
        Number of users whose last features are kept.
    on_age
        Told the age in seconds of the event that an answer's features come from.
    """

    def __init__(
        self,
        reader: RowReader,
        entity_name: str,
        nothing: NDArray[np.float32],
        ttl: timedelta | None,
        remembered: int,
        on_age: Callable[[float], None] = lambda age_s: None,
    ) -> None:
        self.reader = reader
        self.entity_name = entity_name
        self.nothing = nothing.astype("<f4").tobytes()
        # Exact columns stand behind the vector: they are for lookup.
        self.vector_end = HEADER_BYTES + len(self.nothing)
        self.not_stored = StoredFeatures(self.nothing, None, _NOT_STORED)
        self.ttl_us = None if ttl is None else int(ttl.total_seconds() * 1_000_000)
        self.remembered = remembered
        self.on_age = on_age
        self._last: OrderedDict[int, tuple[bytes, int]] = OrderedDict()

    def key(self, entity: int) -> str:
        """Where Redis holds the features of an entity."""
        return self.reader.key(entity)

    async def read(self, entity: int, now_us: int, key: str | None = None) -> StoredFeatures:
        """Read the features of one entity; ``key`` is what messages call it.

        Raises
        ------
        UnknownEntity
            If the online store answers that it has no row.
        """
        try:
            [reply] = await self.reader.values.get_many([self.key(entity)])
        except StoreUnavailable:
            return self.without_store(entity, now_us)
        return self.of_reply(entity, reply, now_us, key)

    def of_reply(
        self, entity: int, reply: bytes | None, now_us: int, key: str | None = None
    ) -> StoredFeatures:
        """Take what Redis holds of an entity; ``key`` is what messages call it.

        Raises
        ------
        UnknownEntity
            If that is nothing.
        """
        if reply is None:
            self._last.pop(entity, None)
            raise UnknownEntity(
                f"The online store has no features for {self.entity_name} {key or entity}. Send "
                "its attributes, or write its features: python pipelines/feature_pipeline.py"
            )
        try:
            event_time_us, _ = self.reader.codec.times_of(entity, reply)
        except SchemaMismatch:
            return StoredFeatures(self.nothing, None, _OUTDATED)
        packed = reply[HEADER_BYTES : self.vector_end]
        self._remember(entity, packed, event_time_us)
        return self._fresh(packed, event_time_us, now_us, 0)

    def without_store(self, entity: int, now_us: int) -> StoredFeatures:
        """Give the last features seen of an entity, else those in which everything is missing."""
        last = self._last.get(entity)
        if last is None:
            return StoredFeatures(self.nothing, None, _UNAVAILABLE)
        return self._fresh(*last, now_us, _CACHED)

    def _fresh(self, packed: bytes, event_time_us: int, now_us: int, flags: int) -> StoredFeatures:
        self.on_age((now_us - event_time_us) / 1e6)
        if self.ttl_us is not None and now_us - event_time_us > self.ttl_us:
            return StoredFeatures(self.nothing, event_time_us, flags | _STALE)
        return StoredFeatures(packed, event_time_us, flags)

    def _remember(self, entity: int, packed: bytes, event_time_us: int) -> None:
        self._last[entity] = packed, event_time_us
        self._last.move_to_end(entity)
        if len(self._last) > self.remembered:
            self._last.popitem(last=False)
