"""Raw rows out of PostgreSQL: a table, a view or a query, new ones told by a cursor column."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from configs.sources import SqlReading
from feature_store.errors import SourceError, StoreUnavailable
from feature_store.offline.postgres import Postgres
from feature_store.sources.cursors import CursorProgress, CursorValue, parsed_cursor
from feature_store.sources.port import (
    Batch,
    Batches,
    Broken,
    Position,
    Reading,
    without_odd_times,
)

if TYPE_CHECKING:
    import polars as pl


@dataclass(eq=False)
class SqlSource:
    """Rows of a table or of a query's result, as of the moment when reading begins.

    Parameters
    ----------
    postgres
        The database, which need not be the store's.
    config
        What to read.
    now
        Gives the time.
    """

    postgres: Postgres
    config: SqlReading
    _: KW_ONLY
    name: str = "sql"
    now: Callable[[], datetime] | None = None

    def read(self, after: Position | None = None) -> Reading:
        """Read all rows, or those from the cursor's last value less the lookback on."""
        return Reading(self._batches(after))

    def _batches(self, after: Position | None) -> Batches:
        progress = CursorProgress(self.config, after, self.now)
        read = 0
        for read_frame in self._frames(self._query(progress.since)):
            frame, odd = without_odd_times(read_frame)
            broken = self._unplaced(frame) | odd
            self._note(frame, progress)
            numbers = np.arange(read + 1, read + len(frame) + 1, dtype=np.int64)
            read += len(frame)
            if len(frame) and (yield Batch(self._what, numbers, numbers, frame, broken)):
                column = self.config.cursor_column
                smallest = frame[column].min() if column else None
                progress.hold_back(None if smallest is None else parsed_cursor(smallest))
        return progress.position

    @property
    def _what(self) -> str:
        return self.config.table or self.name

    def _query(self, since: CursorValue | None) -> str:
        if self.config.table:
            rows = ".".join(f'"{part}"' for part in self.config.table.split("."))
        else:  # on lines of its own, since a query may end in a comment
            rows = "(\n" + (self.config.query or "").strip().rstrip(";") + "\n)"
        column = self.config.cursor_column
        where = ""
        if since is not None:
            value = f"'{since.isoformat()}'" if isinstance(since, datetime) else str(since)
            # Rows without a cursor would otherwise be skipped silently.
            where = f' WHERE "{column}" >= {value} OR "{column}" IS NULL'
        order = f' ORDER BY "{column}"' if column else ""
        return f"SELECT * FROM {rows} AS source{where}{order}"

    def _frames(self, query: str) -> Iterator[pl.DataFrame]:
        from polars.exceptions import DuplicateError

        try:
            yield from self.postgres.stream(query)
        except StoreUnavailable as error:
            raise SourceError(f"The source '{self._what}' cannot be read: {error}") from error
        except DuplicateError as error:
            raise SourceError(
                f"The source '{self._what}' gives two columns one name: {str(error).strip()}. Name "
                "each once in the query (SELECT b.x AS b_x)."
            ) from error

    def _unplaced(self, frame: pl.DataFrame) -> dict[int, Broken]:
        column = self.config.cursor_column
        if column is None:
            return {}
        if column not in frame.columns:
            raise SourceError(
                f"The source '{self._what}' has no column '{column}', which 'cursor_column' names. "
                f"Known: {', '.join(frame.columns)}."
            )
        reason = f"{column}, the cursor, is missing"
        places = frame[column].is_null().arg_true().to_list()
        return {place: Broken(reason, frame.row(place, named=True)) for place in places}

    def _note(self, frame: pl.DataFrame, progress: CursorProgress) -> None:
        column = self.config.cursor_column
        largest = frame[column].max() if column else None
        if largest is None:
            return
        try:
            progress.saw(parsed_cursor(largest))
        except ValueError as error:
            raise SourceError(
                f"The cursor column '{column}' of '{self._what}' holds {largest!r}; expected a "
                "time or a whole number."
            ) from error
