"""Sifts the rows that answer out of all rows of a table, for keys of any type."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from feature_store.point_in_time import NewestRows


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
        self._kept: list[pl.DataFrame] = []
        self._kept_rows = 0
        self._places = np.full(len(asked), -1, dtype=np.int64)

    def add(self, block: pl.DataFrame) -> None:
        """Look at some stored rows: the key, ``event_timestamp``, ``created_timestamp``, others."""
        if self._newest is None:
            self._number_keys(block)
        assert self._newest is not None
        numbered = block.with_row_index("row").join(self._numbers, on=self._by, how="inner")
        times = (_naive(numbered, name) for name in ("event_timestamp", "created_timestamp"))
        rows, places = self._newest.add(numbered["number"].to_numpy(), *times)
        self._places[places] = np.arange(self._kept_rows, self._kept_rows + len(rows))
        kept = block[numbered["row"].to_numpy()[rows]]
        self._kept.append(kept.drop(*self._by, "event_timestamp", "created_timestamp"))
        self._kept_rows += len(rows)
        if self._kept_rows > 2 * len(self._asked) + len(block):
            self._forget_the_replaced()

    def answers(self) -> tuple[pl.DataFrame | None, NDArray[np.int64]]:
        """The kept rows, and for each asked row its place among them; -1 for none."""
        if self._newest is None:
            return None, self._places
        sources = self._newest.answers()
        places = np.where(sources < 0, -1, self._places[sources])
        return pl.concat(self._kept, rechunk=False), places

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

    def _forget_the_replaced(self) -> None:
        noted = np.flatnonzero(self._places >= 0)
        self._kept = [pl.concat(self._kept)[self._places[noted]]]
        self._places[noted] = np.arange(len(noted))
        self._kept_rows = len(noted)


def like(keys: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Keys in the type of the stored ones; null where they cannot be one of them."""
    cast = keys.cast(dtype, strict=False)
    if not keys.dtype.is_float():
        return cast
    return pl.select(pl.when(cast.cast(keys.dtype) == keys).then(cast)).to_series().alias(keys.name)


def _naive(frame: pl.DataFrame, name: str) -> NDArray[np.datetime64]:
    column = frame[name].dt.replace_time_zone(None).dt.cast_time_unit("us")
    return column.to_numpy()
