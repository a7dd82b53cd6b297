"""Point-in-time lookups in tables with an index on key and time: the work grows with the asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from feature_store.offline.postgres import Postgres

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Lookup:
    """Which rows to look up: for each asked (key, time), the newest one at or before it.

    Parameters
    ----------
    rows
        What follows FROM.
    entity, event_time, created_time
        SQL of the columns that an index leads by, in this order.
    columns
        SQL of what to read, with its names.
    ttl
        A row older than this at the asked time is none; exactly this old still is one.
    known
        Whether a row counts only for times at which the store had learned it.
    known_by
        Only rows that the store had learned by then.
    """

    rows: str
    entity: str
    event_time: str
    created_time: str
    columns: Sequence[str]
    ttl: timedelta | None = None
    known: bool = False
    known_by: datetime | None = None

    def answers(
        self, postgres: Postgres, keys: NDArray[np.int64], times: NDArray[np.datetime64]
    ) -> Iterator[pl.DataFrame]:
        """The rows that were found, block by block, with the ``place`` of the asked one.

        Parameters
        ----------
        keys, times
            int64 and datetime64[us] ``(n,)``, in any order; no time (NaT) finds nothing.
        """
        import pyarrow as pa

        # Neighbours in the index are asked for one after the other.
        order = np.lexsort((times, keys))
        asked = {
            "place": order,
            "key": keys[order],
            "time": pa.array(times[order].astype("datetime64[us]"), pa.timestamp("us", "UTC")),
        }
        return postgres.stream(self._query(), pa.table(asked))

    def _query(self) -> str:
        where = [f"{self.entity} = asked.key", f"{self.event_time} <= asked.time"]
        if self.ttl is not None:
            # In seconds, since days would depend on the session's time zone.
            seconds, rest = divmod(self.ttl, timedelta(seconds=1))
            span = f"interval '{seconds}.{rest.microseconds:06} seconds'"
            where.append(f"{self.event_time} >= asked.time - {span}")
        if self.known:
            where.append(f"{self.created_time} <= asked.time")
        if self.known_by is not None:
            where.append(f"{self.created_time} <= '{self.known_by.isoformat()}'")
        return (
            "SELECT asked.place, found.* FROM asked CROSS JOIN LATERAL ("
            f"SELECT {', '.join(self.columns)} FROM {self.rows} WHERE {' AND '.join(where)} "
            f"ORDER BY {self.event_time} DESC, {self.created_time} DESC LIMIT 1) AS found"
        )
