"""The layout of an online row of a windowed view: the header of every row, then its tiles.

========  ========  ============================================================
bytes     type      meaning
========  ========  ============================================================
0-32                fingerprint, key, event time of the newest event, created
32-39     56 bits   which tiles hold events, the oldest first (for 56 tiles)
39-       u4 or i8  the totals of those tiles: counts as u4, sums of cents as i8
========  ========  ============================================================

The last tile of each hop is that of the newest event. Values are added up when the row is read, as
of then: who goes quiet decays without a write.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.schema import FeatureSchema
from feature_store.definitions.window_plan import ActivityPlan
from feature_store.definitions.window_totals import Events, sums_of_tiles, tiles_of
from feature_store.online.row_codec import (
    HEADER_BYTES,
    Row,
    microseconds_of,
    other_entity,
    other_schema,
    packed_headers,
)


@dataclass(frozen=True)
class ActivityRows:
    """Tiles of many entities, in the form in which `OnlineStore` writes rows.

    Parameters
    ----------
    values
        int64 ``(n, tiles, totals)``.
    keys, times
        int64 ``(n,)`` and datetime64[us] ``(n,)``: entity, and time of its newest event.
    """

    values: NDArray[np.int64]
    keys: NDArray[np.int64]
    times: NDArray[np.datetime64]

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def of(cls, plan: ActivityPlan, events: Events) -> ActivityRows:
        """The row of every entity that has events; a function of its events and nothing else."""
        keys, newest, tiles = tiles_of(plan, events)
        return cls(tiles, keys, newest.view("datetime64[us]"))


class ActivityCodec:
    """Packs tiles into rows; unpacks a row to its values as of a time.

    Parameters
    ----------
    schema
        A windowed schema, perhaps one that was stored long ago.
    """

    def __init__(self, schema: FeatureSchema) -> None:
        self.schema = schema
        self.plan = plan = ActivityPlan(schema)
        self.fingerprint = bytes.fromhex(schema.fingerprint)
        self.tile = np.dtype([(f"total_{n}", t.dtype) for n, t in enumerate(plan.totals)])
        self.map_bytes = (plan.tiles + 7) // 8

    def encode(
        self,
        values: NDArray[np.int64],
        keys: NDArray[np.int64],
        times: NDArray[np.datetime64],
        created: NDArray[np.datetime64] | np.datetime64,
    ) -> list[bytes]:
        """Pack tiles ``(n, tiles, totals)`` with keys and times ``(n,)`` into ``n`` rows."""
        held = values.any(axis=2)
        packed = np.empty(int(held.sum()), dtype=self.tile)
        for place in range(len(self.plan.totals)):
            packed[f"total_{place}"] = values[:, :, place][held]
        maps = np.packbits(held, axis=1)
        heads = packed_headers(self.fingerprint, keys, times, created)
        ends = np.cumsum(held.sum(axis=1)).tolist()
        starts, tiles, size = [0, *ends], packed.tobytes(), self.tile.itemsize
        return [
            head + bits.tobytes() + tiles[start * size : end * size]
            for head, bits, start, end in zip(heads, maps, starts, ends, strict=False)
        ]

    def decode(self, key: int, packed: bytes, now: datetime | None = None) -> Row:
        """Unpack one row to its values as of ``now`` (the present when None).

        A reader whose clock is behind the newest event reads as of just after that event.

        Raises
        ------
        SchemaMismatch
            As `RowCodec.decode` does.
        """
        held = self._held(packed)
        expected = HEADER_BYTES + self.map_bytes + int(held.sum()) * self.tile.itemsize
        if packed[:8] != self.fingerprint or len(packed) != expected:
            raise other_schema(self.schema, key, packed, expected)
        owner, event_time, created_time = np.frombuffer(packed, "<i8", count=3, offset=8).tolist()
        if owner != key:
            raise other_entity(self.schema, key, owner)
        stored = np.frombuffer(packed, self.tile, offset=HEADER_BYTES + self.map_bytes)
        tiles = np.zeros((1, self.plan.tiles, len(self.plan.totals)), dtype=np.int64)
        for place in range(len(self.plan.totals)):
            tiles[0, held, place] = stored[f"total_{place}"]
        time = max(microseconds_of(now or datetime.now(UTC)), event_time + 1)
        sums = sums_of_tiles(self.plan, tiles, np.array([event_time]), np.array([time]))
        return Row(key, event_time, created_time, self.plan.values(sums)[0])

    def _held(self, packed: bytes) -> NDArray[np.bool_]:
        """Which tiles a row holds; none where it is too short to say."""
        bits = np.zeros(self.map_bytes, dtype=np.uint8)
        given = np.frombuffer(packed[HEADER_BYTES : HEADER_BYTES + self.map_bytes], np.uint8)
        bits[: len(given)] = given
        return np.unpackbits(bits, count=self.plan.tiles).astype(bool)
