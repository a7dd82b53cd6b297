"""Windowed totals of events: straight from the events, or from tiles of them; always the same.

Everything is whole numbers: keys and times (microseconds since 1970 in UTC) as int64, totals as
int64, added up exactly in any order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.window_plan import ANY, ActivityPlan

PAIRS_AT_ONCE = 1_000_000
"""Pairs of an asked row and an event that are in memory together."""

Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Events:
    """Events of many entities.

    Parameters
    ----------
    keys, times
        int64 ``(n,)``, by key and time; times in microseconds.
    types
        int16 ``(n,)``: place of the type in ``plan.event_types``, from 1; 0 for any other.
    cents
        int64 ``(n,)``; 0 where there is no amount.
    has_amount
        bool ``(n,)``.
    created
        int64 ``(n,)``: when the store learned them, in microseconds.
    """

    keys: Whole
    times: Whole
    types: NDArray[np.int16]
    cents: Whole
    has_amount: NDArray[np.bool_]
    created: Whole

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self, which: NDArray[np.generic]) -> Events:
        """Return the chosen events (an index array or a mask)."""
        return Events(
            *(self.keys[which], self.times[which], self.types[which]),
            *(self.cents[which], self.has_amount[which], self.created[which]),
        )

    def in_order(self) -> Events:
        """Return the events by key and time."""
        return self.rows(np.lexsort((self.times, self.keys)))

    def newest(self) -> tuple[Whole, Whole]:
        """Every key once, and the time of its newest event."""
        last = np.ones(len(self), dtype=bool)
        last[:-1] = self.keys[1:] != self.keys[:-1]
        return self.keys[last], self.times[last]


def contributions(plan: ActivityPlan, events: Events) -> Whole:
    """What each event adds to each total: int64 ``(totals, n)``."""
    ones = np.ones(len(events), dtype=np.int64)
    whats = {"events": ones, "amounts": events.has_amount, "cents": events.cents}
    added = np.empty((len(plan.totals), len(events)), dtype=np.int64)
    for place, total in enumerate(plan.totals):
        added[place] = whats[total.of]
        if total.event_type != ANY:
            added[place] *= events.types == 1 + plan.event_types.index(total.event_type)
    return added


def tiles_of(plan: ActivityPlan, events: Events) -> tuple[Whole, Whole, Whole]:
    """Tiles of every key, up to that of its newest event.

    Returns
    -------
    keys, newest, tiles
        int64 ``(n,)``, ``(n,)`` and ``(n, tiles, totals)``.
    """
    keys, newest = events.newest()
    row = np.searchsorted(keys, events.keys)
    added = contributions(plan, events)
    tiles = np.zeros((len(plan.totals), len(keys), plan.tiles), dtype=np.int64)
    for tiling in plan.tilings:
        back = newest[row] // tiling.hop_us - events.times // tiling.hop_us
        kept = back < tiling.count
        place = tiling.first + tiling.count - 1 - back[kept]
        for total, each in enumerate(added):
            np.add.at(tiles[total], (row[kept], place), each[kept])
    return keys, newest, np.ascontiguousarray(tiles.transpose(1, 2, 0))


def sums_of_tiles(plan: ActivityPlan, tiles: Whole, newest: Whole, times: Whole) -> Whole:
    """Totals of each window at each time out of tiles.

    Parameters
    ----------
    tiles, newest
        ``(n, tiles, totals)`` and ``(n,)``, as `tiles_of` gives them.
    times
        ``(n,)``; each after the newest event of its row.

    Returns
    -------
    int64 ``(n, windows, totals)``.
    """
    starts = (times[:, np.newaxis] - plan.spans) // plan.hops
    oldest = newest[:, np.newaxis] // plan.hops - plan.counts + 1
    gone = (starts - oldest)[:, :, np.newaxis]
    kept = plan.is_of_window & (plan.tile_places >= gone)
    sums: Whole = kept.astype(np.int64) @ tiles
    return sums


def sums_of_events(
    plan: ActivityPlan, events: Events, keys: Whole, times: Whole, *, known: bool = False
) -> tuple[Whole, NDArray[np.bool_]]:
    """Totals of each window of each key at each time, straight from the events.

    Parameters
    ----------
    events
        By key and time.
    keys, times
        ``(n,)``, in any order.
    known
        Whether an event counts only for times at which the store had learned it.

    Returns
    -------
    sums, found
        int64 ``(n, windows, totals)``, and a mask ``(n,)`` of those whose newest event before the
        time is no older than the TTL.
    """
    sums = np.zeros((len(keys), len(plan.windows), len(plan.totals)), dtype=np.int64)
    found = np.zeros(len(keys), dtype=bool)
    if len(events) == 0:
        return sums, found
    of_key = (np.searchsorted(events.keys, keys), np.searchsorted(events.keys, keys, "right"))
    end = _places(events.times, of_key, times)
    starts = [window.starts(times) for window in plan.windows] + [times - plan.ttl_us]
    begins = [_places(events.times, of_key, start) for start in starts]
    if known:
        return _known_sums(plan, events, times, begins, end)
    running = _running(contributions(plan, events))
    for place, begin in enumerate(begins[:-1]):
        sums[:, place] = (running[:, end] - running[:, begin]).T
    return sums, begins[-1] < end


def _known_sums(
    plan: ActivityPlan, events: Events, times: Whole, begins: list[Whole], end: Whole
) -> tuple[Whole, NDArray[np.bool_]]:
    """`sums_of_events` of the events that were known: each asked row looks at each of its own."""
    added = contributions(plan, events)
    sums = np.zeros((len(times), len(plan.windows), len(plan.totals)), dtype=np.int64)
    found = np.zeros(len(times), dtype=bool)
    first = np.minimum.reduce(begins)
    for rows in _blocks(end - first):
        sizes = end[rows] - first[rows]
        edges = np.concatenate([[0], np.cumsum(sizes)])
        row = np.repeat(np.arange(rows.start, rows.stop), sizes)
        place = np.arange(edges[-1]) + np.repeat(first[rows] - edges[:-1], sizes)
        is_known = events.created[place] <= times[row]
        for window, begin in enumerate(begins):
            counted = is_known & (place >= begin[row])
            if window == len(plan.windows):
                running = _running(counted[np.newaxis].astype(np.int64))
                found[rows] = np.diff(running[0, edges]) > 0
            else:
                running = _running(added[:, place] * counted)
                sums[rows, window] = np.diff(running[:, edges]).T
    return sums, found


def _places(times: Whole, of_key: tuple[Whole, Whole], asked: Whole) -> Whole:
    """First place in each key's own times that is not before the asked one: a bisection of all."""
    low, high = of_key[0].copy(), of_key[1].copy()
    for _ in range(int((high - low).max(initial=0)).bit_length()):
        is_open = low < high
        middle = (low + high) // 2
        is_before = is_open & (times[np.minimum(middle, len(times) - 1)] < asked)
        low = np.where(is_before, middle + 1, low)
        high = np.where(is_open & ~is_before, middle, high)
    return low


def _running(added: Whole) -> Whole:
    """Totals ``(totals, n + 1)`` before each event and after the last."""
    running = np.zeros((len(added), added.shape[1] + 1), dtype=np.int64)
    np.cumsum(added, axis=1, out=running[:, 1:])
    return running


def _blocks(sizes: Whole) -> Iterator[slice]:
    """Slices of rows whose sizes add up to some `PAIRS_AT_ONCE`, of one row at least."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        before = ends[start - 1] if start else 0
        stop = int(np.searchsorted(ends, before + PAIRS_AT_ONCE, "right"))
        stop = max(stop, start + 1)
        yield slice(start, stop)
        start = stop
