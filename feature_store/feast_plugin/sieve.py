"""Sifts the rows that answer out of all rows of a table, for keys of any type, and keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from feature_store.feast_plugin.point_in_time import NewestRows


class KeptRows:
    """Rows in compact Arrow columns; work on them holds no more than one column twice."""

    def __init__(self) -> None:
        self._chunks: dict[str, list[pa.Array]] = {}
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def add(self, rows: pl.DataFrame) -> None:
        """Keep rows, copied: a string of polars may hold on to the block that it came with."""
        if rows.is_empty():
            return
        table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
        for name, column in zip(table.column_names, table.columns, strict=True):
            self._chunks.setdefault(name, []).extend(column.chunks)
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
