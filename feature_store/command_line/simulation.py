"""``simulate``: synthetic events, counted or stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from configs.command_line import progress
from configs.output import Answer, Table
from configs.settings import Settings
from feature_store import connect
from feature_store.windows.simulator import Arrival, simulate
from feature_store.windows.writer import ActivityWriter

EVENTS_AT_ONCE = 5_000


def simulated(users: int, days: int, seed: int, end: datetime, settings: Settings | None) -> Answer:
    """Simulate events; store them where there are settings, and count them in any case."""
    writer = connect.activity_writer(settings) if settings else None
    types: Counter[str] = Counter()
    counts = Counter(arrivals=0, late=0, twice=0, new=0)
    recent: list[set[str]] = [set(), set()]  # what is delivered twice is so within hours
    with progress("simulate", days, " days") as advance:
        for day in simulate(users, days, seed, end):
            recent = [recent[1], set()]
            for arrival in day:
                name = arrival.event.event_id
                counts["arrivals"] += 1
                counts["late"] += (arrival.at - arrival.event.time).total_seconds() > 60
                counts["twice"] += any(name in names for names in recent)
                types[arrival.event.event_type] += 1
                recent[1].add(name)
            counts["new"] += _stored(writer, day) if writer else 0
            advance(1)
    return _answer(users, days, seed, end, types, counts, is_stored=writer is not None)


def _stored(writer: ActivityWriter, day: Sequence[Arrival]) -> int:
    new = 0
    for start in range(0, len(day), EVENTS_AT_ONCE):
        batch = day[start : start + EVENTS_AT_ONCE]
        new += writer.apply([arrival.event for arrival in batch], batch[-1].at)
    return new


def _answer(
    users: int,
    days: int,
    seed: int,
    end: datetime,
    types: Counter[str],
    counts: Counter[str],
    *,
    is_stored: bool,
) -> Answer:
    data: dict[str, Any] = {
        "users": users,
        "days": days,
        "seed": seed,
        "end": end,
        "arrivals": counts["arrivals"],
        "late_by_a_minute_or_more": counts["late"],
        "delivered_twice": counts["twice"],
        "by_type": dict(sorted(types.items())),
        "stored_now": counts["new"] if is_stored else None,
    }
    rows = [(name.replace("_", " "), value) for name, value in data.items() if name != "by_type"]
    rows += [(f"of type {name}", count) for name, count in sorted(types.items())]
    return Answer(data, [Table("Synthetic events", ("", ""), rows)])
