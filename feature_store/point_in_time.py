"""The AS-OF join: for each (entity, time), the newest row at or before it."""

from __future__ import annotations

from collections.abc import Sequence
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

    asked = pl.DataFrame({entity: keys, "time": times.astype("datetime64[us]")})
    return join_as_of(asked, stored, [entity], ttl)


def join_as_of(
    asked: pl.DataFrame,
    stored: pl.DataFrame,
    by: Sequence[str],
    ttl: timedelta | None = None,
    *,
    known: bool = False,
) -> NDArray[np.int64]:
    """Place in ``stored`` of the newest row at or before each time, for keys of any kind.

    Parameters
    ----------
    asked
        The columns ``by`` and ``time`` (naive UTC); a row in which one of them is null finds none.
    stored, ttl
        As in `as_of`, with all the columns ``by``.
    known
        Whether a row counts only for times at which the store had learned it: its created time
        must not lie after the asked time either.

    Returns
    -------
    int64 ``(n,)``.
    """
    import polars as pl

    events = _events(stored, by)
    if known:
        events = _best_known(events, by)
    joined = (
        asked.select(*by, "time")
        .with_row_index("n")
        .drop_nulls()
        .sort("time")
        .join_asof(events, on="time", by=list(by), strategy="backward", check_sortedness=False)
    )
    if ttl is not None:
        joined = joined.filter(pl.col("time") - pl.col("event_time") <= ttl)
    places = np.full(len(asked), -1, dtype=np.int64)
    found = joined.drop_nulls("place")
    places[found["n"].to_numpy()] = found["place"].to_numpy()
    return places


def _events(stored: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """Keys, times and places of the stored rows, oldest event first, ties by created time."""
    import polars as pl

    def naive(name: str) -> pl.Expr:
        return pl.col(name).dt.replace_time_zone(None).dt.cast_time_unit("us")

    return (
        stored.select(
            *by,
            naive("event_timestamp").alias("time"),
            naive("event_timestamp").alias("event_time"),
            naive("created_timestamp").alias("created_time"),
        )
        .with_row_index("place")
        .sort("event_time", "created_time", maintain_order=True)
    )


def _best_known(events: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """For each moment at which a row became known, the newest row among those known by then."""
    import polars as pl

    return (
        events.with_row_index("rank")
        .with_columns(time=pl.max_horizontal("event_time", "created_time"))
        .sort("time", "rank")
        .with_columns(rank=pl.col("rank").cum_max().over(by))
        .select(*by, "time", "rank")
        .join(
            events.with_row_index("rank").select("rank", "place", "event_time"),
            on="rank",
            how="left",
            maintain_order="left",
        )
    )
