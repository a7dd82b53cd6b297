"""The AS-OF join: for each (key, time) the newest row at or before it, out of rows in any order.

Keys may be of any type, and only the rows that answer are kept while blocks of a table come in.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import polars as pl
import pyarrow as pa
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


class KeptRows:
    """Rows in compact Arrow columns; work on them holds no more than one column twice."""

    def __init__(self) -> None:
        self._chunks: dict[str, list[pa.Array]] = {}
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def add(self, rows: pl.DataFrame) -> None:
        """Keep rows, copied: a string of polars may hold on to the block that it came with."""
        if rows.is_empty() and self._chunks:
            return
        table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
        for name, column in zip(table.column_names, table.columns, strict=True):
            chunks = column.chunks or [pa.array([], column.type)]
            self._chunks.setdefault(name, []).extend(chunks)
        self._n += len(rows)

    def only(self, places: NDArray[np.int64]) -> None:
        """Keep the rows at these places, in this order, and forget the others."""
        for chunks in self._chunks.values():
            chunks[:] = pa.chunked_array(chunks).take(pa.array(places)).chunks
        self._n = len(places)

    def pop(self, name: str, places: NDArray[np.int64]) -> pa.Array:
        """Take a column away: its values at these places, null where a place is -1."""
        chunks = self._chunks.pop(name, None)
        if chunks is None:
            return pa.nulls(len(places))
        taken = pa.chunked_array(chunks).take(pa.array(places, mask=places < 0))
        return taken.combine_chunks() if taken.num_chunks != 1 else taken.chunk(0)


class Sieve:
    """Keeps, while blocks of stored rows pass by, the newest one for each asked row.

    What it holds grows with the asked rows, not with those that pass.

    Parameters
    ----------
    asked
        The columns ``by`` and ``time`` (naive UTC); a row in which one of them is null finds none.
    by
        Names of the columns that are the key; none is ``number`` or ``row``.
    ttl, known
        As in `NewestRows`.
    """

    def __init__(
        self,
        asked: pl.DataFrame,
        by: Sequence[str],
        ttl: timedelta | None = None,
        *,
        known: bool = False,
    ) -> None:
        self._asked, self._by, self._ttl, self._known = asked, list(by), ttl, known
        self._newest: NewestRows | None = None
        self._kept = KeptRows()
        self._places = np.full(len(asked), -1, dtype=np.int64)

    def add(self, block: pl.DataFrame) -> None:
        """Look at some stored rows: the key, ``event_timestamp``, ``created_timestamp``, others."""
        if self._newest is None:
            self._number_keys(block)
        assert self._newest is not None
        known = block.select(*self._by, "event_timestamp", "created_timestamp")
        numbered = known.with_row_index("row").join(self._numbers, on=self._by, how="inner")
        times = (_naive(numbered, name) for name in ("event_timestamp", "created_timestamp"))
        rows, places = self._newest.add(numbered["number"].to_numpy(), *times)
        self._places[places] = np.arange(len(self._kept), len(self._kept) + len(rows))
        self._kept.add(block.drop(known.columns)[numbered["row"].to_numpy()[rows]])
        if len(self._kept) > 1.5 * len(self._asked) + len(block):
            noted = np.flatnonzero(self._places >= 0)
            self._kept.only(self._places[noted])
            self._places[noted] = np.arange(len(noted))

    def answers(self) -> tuple[KeptRows, NDArray[np.int64]]:
        """The kept rows, and for each asked row its place among them; -1 for none."""
        if self._newest is None:
            return self._kept, self._places
        sources = self._newest.answers()
        return self._kept, np.where(sources < 0, -1, self._places[sources])

    def _number_keys(self, stored: pl.DataFrame) -> None:
        """Give each asked key a number, once it is known which type the stored ones have."""
        keys = self._asked.select(like(self._asked[n], stored.schema[n]) for n in self._by)
        self._numbers = (
            keys.drop_nulls().unique().with_row_index("number").cast({"number": pl.Int64})
        )
        numbers = keys.join(self._numbers, on=self._by, how="left", maintain_order="left")["number"]
        times = self._asked["time"].to_numpy()
        self._newest = NewestRows(
            numbers.fill_null(-1).to_numpy(), times, self._ttl, known=self._known
        )


def like(keys: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Keys in the type of the stored ones; null where they cannot be one of them."""
    cast = keys.cast(dtype, strict=False)
    if not keys.dtype.is_float():
        return cast
    return pl.select(pl.when(cast.cast(keys.dtype) == keys).then(cast)).to_series().alias(keys.name)


def _naive(frame: pl.DataFrame, name: str) -> NDArray[np.datetime64]:
    column = frame[name].dt.replace_time_zone(None).dt.cast_time_unit("us")
    return column.to_numpy()
