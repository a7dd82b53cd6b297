"""The AS-OF join: for each (entity, time), the newest row at or before it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import polars as pl


def as_of(
    keys: NDArray[np.int64],
    times: NDArray[np.datetime64],
    stored: pl.DataFrame,
    entity: str,
    ttl: timedelta | None = None,
) -> NDArray[np.int64]:
    """Place in ``stored`` of the newest row at or before each time, -1 where there is none.

    Parameters
    ----------
    keys, times
        int64 and datetime64[us] ``(n,)``, in any order, repeats welcome.
    stored
        Rows with the columns ``entity``, ``event_timestamp`` and ``created_timestamp``. Of rows
        with the same entity and event time the one created last counts.
    ttl
        A row older than this at the asked time is none; exactly this old still is one.

    Returns
    -------
    int64 ``(n,)``.
    """
    import polars as pl

    asked = pl.DataFrame({entity: keys, "time": times.astype("datetime64[us]")}).with_row_index("n")
    events = (
        stored.select(
            pl.col(entity),
            pl.col("event_timestamp").dt.replace_time_zone(None).dt.cast_time_unit("us"),
            "created_timestamp",
        )
        .with_row_index("place")
        .sort("event_timestamp", "created_timestamp")
        .unique([entity, "event_timestamp"], keep="last", maintain_order=True)
        .rename({"event_timestamp": "time"})
    )
    joined = asked.sort("time").join_asof(
        events,
        on="time",
        by=entity,
        strategy="backward",
        tolerance=ttl,
        check_sortedness=False,
    )
    places = joined.sort("n")["place"].cast(pl.Int64).fill_null(-1)
    return places.to_numpy()
