"""Random events on the edges of windows, and what their windows hold by looking at every event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import strategies as st

from feature_store.definitions.schema import FeatureSchema
from feature_store.definitions.window_plan import ActivityPlan
from feature_store.definitions.window_totals import Events
from feature_store.feature_definitions import USER_ACTIVITY
from feature_store.offline.events import ActivityEvent

SCHEMA = USER_ACTIVITY.schema
PLAN = USER_ACTIVITY.plan
NOON = datetime(2026, 3, 15, 12, tzinfo=UTC)
HOUR, DAY, INSTANT = timedelta(hours=1), timedelta(days=1), timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Learned:
    """An event, and when the store learned it."""

    event: ActivityEvent
    created: datetime


def moments() -> st.SearchStrategy[datetime]:
    """Times of some seventy days, many of them on or beside an edge of an hour or a day."""
    whole = st.integers(-40 * 24, 30 * 24).map(lambda hours: NOON + hours * HOUR)
    midnights = st.integers(-40, 30).map(lambda days: NOON - 12 * HOUR + days * DAY)
    beside = st.sampled_from([timedelta(0), INSTANT, -INSTANT, timedelta(minutes=17)])
    return st.builds(lambda at, by: at + by, whole | midnights, beside)


def amounts() -> st.SearchStrategy[int | None]:
    return st.none() | st.integers(-(10**6), 10**6) | st.integers(-(10**12), 10**12)


def event_lists(users: int = 3, most: int = 25) -> st.SearchStrategy[list[ActivityEvent]]:
    """Events of a few users, each with an id of its own."""
    one = st.tuples(
        st.integers(1, users), moments(), st.sampled_from(["view", "purchase", "refund"]), amounts()
    )
    return st.lists(one, min_size=1, max_size=most).map(
        lambda rows: [ActivityEvent(f"e{n}", *row) for n, row in enumerate(rows)]
    )


def expected(events: Sequence[ActivityEvent], key: int, at: datetime) -> dict[str, float] | None:
    """The values of a user at a time, event by event; None where there are none."""
    mine = [event for event in events if event.key == key and event.time < at]
    if not mine or at - max(event.time for event in mine) > timedelta(days=30):
        return None
    values: dict[str, float] = {}
    for name, span, hop in [("1d", DAY, HOUR), ("7d", 7 * DAY, DAY), ("30d", 30 * DAY, DAY)]:
        start = EPOCH + (at - span - EPOCH) // hop * hop
        inside = [event for event in mine if start <= event.time]
        cents = [event.amount_cents for event in inside if event.amount_cents is not None]
        values[f"events_count_{name}"] = len(inside)
        values[f"purchases_count_{name}"] = sum(e.event_type == "purchase" for e in inside)
        values[f"amount_sum_{name}"] = sum(cents) / 100
        mean = sum(cents) / len(cents) / 100 if cents else float("nan")
        values[f"amount_mean_{name}"] = mean
    return values


def vector(values: dict[str, float] | None) -> np.ndarray:
    """The values as float32 ``(p,)``; all missing where there are none."""
    wanted = [float("nan") if values is None else values[name] for name in SCHEMA.names]
    return np.array(wanted, dtype=np.float64).astype(np.float32)


def arrays(events: Sequence[ActivityEvent], created: Sequence[datetime] = ()) -> Events:
    """Events as the store reads them."""
    known = created or [event.time for event in events]
    types = [1 + PLAN.event_types.index(e.event_type) if e.event_type == "purchase" else 0
             for e in events]  # fmt: skip
    return Events(
        np.array([event.key for event in events], dtype=np.int64),
        np.array([us(event.time) for event in events], dtype=np.int64),
        np.array(types, dtype=np.int16),
        np.array([event.amount_cents or 0 for event in events], dtype=np.int64),
        np.array([event.amount_cents is not None for event in events], dtype=bool),
        np.array([us(time) for time in known], dtype=np.int64),
    ).in_order()


def us(time: datetime) -> int:
    return (time - EPOCH) // INSTANT


def plan_of(schema) -> ActivityPlan:
    return ActivityPlan(schema)


def hourly() -> FeatureSchema:
    """The view with a week whose tail moves by the hour."""
    features = [
        replace(each, rule={**each.rule, "hop": "1h"}) if each.name.endswith("_7d") else each
        for each in SCHEMA.features
    ]
    return FeatureSchema(SCHEMA.view, tuple(features))
