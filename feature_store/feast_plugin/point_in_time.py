"""The AS-OF join: for each (key, time) the newest row at or before it, out of rows in any order."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

NOT_NOTED = np.iinfo(np.int64).min


class NewestRows:
    """Finds what answers some asked rows while stored rows pass by, block after block.

    Each stored row is noted at the first asked row of its key that may see it, unless something
    newer is noted there already; in the end each asked row takes the newest note of its key up to
    its own time. So the stored rows may come in any order, and what is kept grows with the asked
    rows alone.

    Parameters
    ----------
    keys, times
        int64 and datetime64[us] ``(n,)`` of the asked rows, in any order, repeats welcome. A
        negative key or no time (NaT) finds nothing.
    ttl
        A row older than this at the asked time is none; exactly this old still is one.
    known
        Whether a row counts only for times at which the store had learned it: its created time
        must not lie after the asked time either.

    Examples
    --------
    >>> asked = NewestRows(np.array([7, 7]), np.array(["2026-01-01", "2026-01-03"], "M8[us]"))
    >>> days = np.array(["2026-01-04", "2026-01-02"], "M8[us]")
    >>> asked.add(np.array([7, 7]), days, days)  # row 1 is noted for the second time
    (array([1]), array([1]))
    >>> asked.answers()
    array([-1,  1])
    """

    def __init__(
        self,
        keys: NDArray[np.int64],
        times: NDArray[np.datetime64],
        ttl: timedelta | None = None,
        *,
        known: bool = False,
    ) -> None:
        usable = np.flatnonzero((keys >= 0) & ~np.isnat(times))
        moments = times[usable].astype("datetime64[us]").astype(np.int64)
        self._moments = np.unique(moments)
        codes = self._codes_of(keys[usable], moments)
        order = np.argsort(codes, kind="stable")
        self._n = len(keys)
        self._places = usable[order]
        self._codes, self._keys, self._times = codes[order], keys[usable][order], moments[order]
        self._events = np.full(len(order), NOT_NOTED)
        self._created = np.full(len(order), NOT_NOTED)
        self._ttl_us = None if ttl is None else ttl // timedelta(microseconds=1)
        self._known = known

    def add(
        self,
        keys: NDArray[np.int64],
        events: NDArray[np.datetime64],
        created: NDArray[np.datetime64],
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Look at a block of stored rows ``(m,)``.

        Of rows with the same key and event the one created last counts; of those created at the
        same time too, the one that came last.

        Returns
        -------
        rows, places
            ``(k,)``: places in the block of the rows that are the newest so far for some asked
            row, and the places of the asked rows at which they are noted. Each asked row is named
            once; what was noted there before is of no use any more.
        """
        event_us = events.astype("datetime64[us]").astype(np.int64)
        created_us = created.astype("datetime64[us]").astype(np.int64)
        seen_from = np.maximum(event_us, created_us) if self._known else event_us
        first = np.searchsorted(self._codes, self._codes_of(keys, seen_from))
        rows = np.flatnonzero(first < len(self._codes))
        rows = rows[self._keys[first[rows]] == keys[rows]]
        rows = rows[np.lexsort((created_us[rows], event_us[rows], first[rows]))]
        slots = first[rows]
        rows = rows[np.append(slots[1:] != slots[:-1], True)[: len(rows)]]
        slots = first[rows]
        newer = (event_us[rows] > self._events[slots]) | (
            (event_us[rows] == self._events[slots]) & (created_us[rows] >= self._created[slots])
        )
        rows, slots = rows[newer], slots[newer]
        self._events[slots], self._created[slots] = event_us[rows], created_us[rows]
        return rows, self._places[slots]

    def answers(self) -> NDArray[np.intp]:
        """For each asked row the place of the one whose noted row answers it; -1 for none."""
        n = len(self._codes)
        by_age = np.lexsort((self._created, self._events))
        ranks = np.empty(n, dtype=np.int64)
        ranks[by_age] = np.arange(1, n + 1)
        ranks[self._events == NOT_NOTED] = 0
        # Keys ascend, so that a running maximum over both starts anew at each key.
        floors = np.searchsorted(self._keys, self._keys) * (n + 1)
        best = np.maximum.accumulate(floors + ranks) - floors
        found = best > 0
        slots = by_age[best[found] - 1]
        if self._ttl_us is not None:
            fresh = self._times[found] - self._events[slots] <= self._ttl_us
            found[found], slots = fresh, slots[fresh]
        answers = np.full(self._n, -1, dtype=np.intp)
        answers[self._places[found]] = self._places[slots]
        return answers

    def _codes_of(self, keys: NDArray[np.int64], times_us: NDArray[np.int64]) -> NDArray[np.int64]:
        """One number for key and time that sorts as the two; times count in asked ones."""
        return keys * (len(self._moments) + 1) + np.searchsorted(self._moments, times_us)
