"""The port: a source yields batches of columns, and says where reading ended.

::

    reading = source.read(after=None)      # or after the position where an earlier one ended
    for batch in reading:
        …
    reading.position                       # kept as JSON, once everything is stored
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from feature_store.errors import SourceError

if TYPE_CHECKING:
    import polars as pl

Position = Mapping[str, Any]
"""Where reading ended, as JSON; its form is the source's own affair."""


@dataclass(frozen=True)
class Broken:
    """A row that could not be split into the columns: why, and what it held."""

    reason: str
    raw: Mapping[str, Any]


@dataclass(frozen=True)
class Batch:
    """Some rows of a source, as they were read.

    Parameters
    ----------
    source
        The file, table or address that they are from.
    row_numbers
        int64 ``(n,)``: where each stands there, counted from 1 (in a file: its line).
    ordinals
        int64 ``(n,)``: its number among all rows of the whole source, counted from 1.
    columns
        Texts or typed values ``(n,)`` by the source's own names; null is missing.
    broken
        Rows that could not be split, by place; their columns are all null.
    """

    source: str
    row_numbers: NDArray[np.int64]
    ordinals: NDArray[np.int64]
    columns: pl.DataFrame
    broken: Mapping[int, Broken] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.row_numbers)

    def rows(self, which: NDArray[np.bool_]) -> Batch:
        """Return the chosen rows, a mask ``(n,)``."""
        places = np.flatnonzero(which).tolist()
        broken = {new: self.broken[old] for new, old in enumerate(places) if old in self.broken}
        return replace(
            self,
            row_numbers=self.row_numbers[which],
            ordinals=self.ordinals[which],
            columns=self.columns[places],
            broken=broken,
        )


SECONDS_OF = {"ms": 10**3, "us": 10**6}
FIRST_S, END_S = -62_135_596_800, 253_402_300_800
"""The beginning of the year 1, and the end of the year 9999: no clock shows another one."""


def without_odd_times(frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[int, Broken]]:
    """A frame with null for times that no calendar has; what is wrong with those rows, by place.

    Databases and Parquet hold years up to 294247, and infinity; Python's times end with 9999.
    """
    import polars as pl

    broken: dict[int, Broken] = {}
    for name, kind in frame.schema.items():
        if not isinstance(kind, pl.Datetime | pl.Date) or getattr(kind, "time_unit", "") == "ns":
            continue
        a_second = SECONDS_OF.get(getattr(kind, "time_unit", ""), 1 / 86_400)
        counted = frame[name].to_physical().cast(pl.Float64)
        odd = (counted < FIRST_S * a_second) | (counted >= END_S * a_second)
        if odd.any():
            frame = frame.with_columns(frame[name].set(odd, None))
            for place in odd.arg_true().to_list():
                broken[place] = Broken(f"{name} lies outside the years 1 to 9999", {})
    return frame, {
        place: replace(each, raw=frame.row(place, named=True)) for place, each in broken.items()
    }


Batches = Generator[Batch, bool | None, Position]
"""What a source writes: it yields batches, is sent whether a row of each is held back, and returns
the position that it reached: one from which every batch with such a row is read again."""


class Reading:
    """One pass over a source: its batches, and afterwards the position that was reached."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._position: Position | None = None
        self._is_held_back = False

    def __iter__(self) -> Iterator[Batch]:
        try:
            batch = next(self._batches)
            while True:
                self._is_held_back = False
                yield batch
                batch = self._batches.send(self._is_held_back)
        except StopIteration as end:
            self._position = end.value

    def hold_back(self) -> None:
        """Say that the batch handed out last has rows whose time has not come: they come again."""
        self._is_held_back = True

    @property
    def position(self) -> Position:
        """Where reading ended.

        Raises
        ------
        SourceError
            If it has not ended: what is still to come would be taken for read.
        """
        if self._position is None:
            raise SourceError("The position is known only after the last batch. Read to the end.")
        return self._position


class Source(Protocol):
    """Raw rows, all of them or those that are new."""

    name: str
    """Stands for it in messages and at its watermark."""

    def read(self, after: Position | None = None) -> Reading:
        """Read all rows, or those that came or changed after an earlier reading's position.

        Rows may come again, never too few: late ones are looked for where the source can tell.

        Raises
        ------
        SourceError
            While reading, if the source is missing, cannot be reached, or is damaged.
        """


def position_text(position: Position | None) -> str:
    """A position as people read it.

    Examples
    --------
    >>> position_text({"column": "updated_at", "value": "2026-01-05T00:00:00+00:00"})
    'updated_at 2026-01-05T00:00:00+00:00'
    >>> position_text({"files": [{"path": "a.csv", "rows": 1500}]})
    '1 files, 1,500 rows'
    """
    if position is None:
        return "nothing read yet"
    if "files" in position:
        rows = sum(file["rows"] for file in position["files"])
        return f"{len(position['files'])} files, {rows:,} rows"
    if position.get("value") is None:
        return "everything that there was"
    return f"{position['column']} {position['value']}"
