"""The AS-OF join against a brute-force oracle."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
from hypothesis import given, strategies as st

from feature_store.point_in_time import join_as_of

EVENTS = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 9), st.integers(0, 9)), max_size=20)
ASKED = st.lists(st.tuples(st.integers(1, 4), st.integers(-1, 11)), min_size=1, max_size=20)


def oracle(
    key: int, time: int, events: list[tuple[int, int, int]], ttl: int | None, learned: bool
) -> tuple[int, int] | None:
    """(event time, created time) of the row that counts, found by looking at all of them."""
    known = [(e, c) for k, e, c in events if k == key and e <= time]
    known = [(e, c) for e, c in known if ttl is None or time - e <= ttl]
    known = [(e, c) for e, c in known if not learned or c <= time]
    return max(known) if known else None


def frame_of(events: list[tuple[int, int, int]]) -> pl.DataFrame:
    """The events as the offline store gives them: a second for each unit of time."""
    return pl.DataFrame(
        {
            "user_id": [key for key, _, _ in events],
            "event_timestamp": [event * 1_000_000 for _, event, _ in events],
            "created_timestamp": [created * 1_000_000 for _, _, created in events],
        },
        schema={
            "user_id": pl.Int64,
            "event_timestamp": pl.Datetime("us", "UTC"),
            "created_timestamp": pl.Datetime("us", "UTC"),
        },
    )


@given(events=EVENTS, asked=ASKED, ttl=st.none() | st.integers(0, 5), learned=st.booleans())
def test_the_join_agrees_with_looking_at_every_row(
    events: list[tuple[int, int, int]], asked: list[tuple[int, int]], ttl: int | None, learned: bool
) -> None:
    times = np.array([time * 1_000_000 for _, time in asked], dtype="M8[us]")
    rows = pl.DataFrame({"user_id": [key for key, _ in asked], "time": times})
    span = None if ttl is None else timedelta(seconds=ttl)
    places = join_as_of(rows, frame_of(events), ["user_id"], span, known=learned).tolist()
    found = [None if place < 0 else events[place][1:] for place in places]
    assert found == [oracle(key, time, events, ttl, learned) for key, time in asked]


def test_keys_may_have_parts_and_gaps() -> None:
    stored = frame_of([(1, 2, 0), (1, 3, 0)]).with_columns(shop=pl.Series(["north", "south"]))
    asked = pl.DataFrame(
        {
            "shop": ["south", "north", "north", None],
            "user_id": [1, 1, None, 1],
            "time": np.array([5_000_000] * 4, dtype="M8[us]"),
        }
    )
    assert join_as_of(asked, stored, ["user_id", "shop"]).tolist() == [1, 0, -1, -1]
