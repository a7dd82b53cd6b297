"""The stored features of a request: fresh, or the best that can be had, and then flagged."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from feature_store.errors import SchemaMismatch, StoreUnavailable
from feature_store.rows import Row
from monitoring.prediction_record import Flags
from serving.errors import UnknownEntity
from serving.online_reader import RowReader


@dataclass(frozen=True, eq=False)
class StoredFeatures:
    """A vector ``(p,)``, the time of the event it comes from (None: none), and what is wrong."""

    vector: NDArray[np.float32]
    event_time_us: int | None
    flags: Flags


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
    """

    def __init__(
        self,
        reader: RowReader,
        entity_name: str,
        nothing: NDArray[np.float32],
        ttl: timedelta | None,
        remembered: int,
    ) -> None:
        self.reader = reader
        self.entity_name = entity_name
        self.nothing = nothing
        self.ttl_us = None if ttl is None else int(ttl.total_seconds() * 1_000_000)
        self.remembered = remembered
        self._last: OrderedDict[int, Row] = OrderedDict()

    async def read(self, entity: int, now_us: int) -> StoredFeatures:
        """Read the features of one entity.

        Raises
        ------
        UnknownEntity
            If the online store answers that it has no row.
        """
        try:
            row = await self.reader.read(entity)
        except StoreUnavailable:
            return self._remembered(entity, now_us)
        except SchemaMismatch:
            return StoredFeatures(self.nothing, None, Flags.FEATURES_OUTDATED)
        if row is None:
            self._last.pop(entity, None)
            raise UnknownEntity(
                f"The online store has no features for {self.entity_name} {entity}. Send its "
                "attributes, or write its features: python pipelines/feature_pipeline.py"
            )
        self._remember(row)
        return self._fresh(row, now_us, Flags.NONE)

    def _fresh(self, row: Row, now_us: int, flags: Flags) -> StoredFeatures:
        if self.ttl_us is not None and now_us - row.event_time_us > self.ttl_us:
            return StoredFeatures(self.nothing, row.event_time_us, flags | Flags.FEATURES_STALE)
        return StoredFeatures(row.vector, row.event_time_us, flags)

    def _remember(self, row: Row) -> None:
        self._last[row.key] = row
        self._last.move_to_end(row.key)
        if len(self._last) > self.remembered:
            self._last.popitem(last=False)

    def _remembered(self, entity: int, now_us: int) -> StoredFeatures:
        row = self._last.get(entity)
        if row is None:
            return StoredFeatures(self.nothing, None, Flags.FEATURES_UNAVAILABLE)
        return self._fresh(row, now_us, Flags.FEATURES_CACHED)
