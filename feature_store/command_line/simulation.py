"""``simulate``: synthetic events, counted or stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import typer

from configs.command_line import AsJson, Debug, progress
from configs.output import Display, Table, show
from configs.section import utc_time
from configs.settings import load_settings
from feature_store import connect
from feature_store.windows.simulator import Arrival, simulate
from feature_store.windows.writer import ActivityWriter

EVENTS_AT_ONCE = 5_000

commands = typer.Typer()


@commands.command(
    "simulate",
    epilog="Example: python -m feature_store simulate --users 1000 --days 40 --to postgres",
)
def simulate_events(
    users: Annotated[int, typer.Option(min=1, help="How many users.")] = 1000,
    days: Annotated[int, typer.Option(min=1, help="How many days.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="The same seed, the same events.")] = 7,
    end: Annotated[
        str | None, typer.Option(help="When the last day ends; today's midnight if absent.")
    ] = None,
    to: Annotated[
        Literal["postgres"] | None,
        typer.Option(help="Store the events; otherwise they are only counted."),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make synthetic events of users who do not exist: for tests, benchmarks and a first look."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    last = utc_time(end) if end else midnight
    writer = connect.activity_writer(load_settings()) if to else None
    types: Counter[str] = Counter()
    counts = Counter(arrivals=0, late=0, twice=0, new=0)
    recent: list[set[str]] = [set(), set()]  # what is delivered twice is so within hours
    with progress("simulate", days, " days") as advance:
        for day in simulate(users, days, seed, last):
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
    data: dict[str, Any] = {
        "users": users,
        "days": days,
        "seed": seed,
        "end": last,
        "arrivals": counts["arrivals"],
        "late_by_a_minute_or_more": counts["late"],
        "delivered_twice": counts["twice"],
        "by_type": dict(sorted(types.items())),
        "stored_now": counts["new"] if writer else None,
    }
    rows = [(name.replace("_", " "), value) for name, value in data.items() if name != "by_type"]
    rows += [(f"of type {name}", count) for name, count in sorted(types.items())]
    show(Display(data, [Table("Synthetic events", ("", ""), rows)]), as_json=as_json)


def _stored(writer: ActivityWriter, day: Sequence[Arrival]) -> int:
    new = 0
    for start in range(0, len(day), EVENTS_AT_ONCE):
        batch = day[start : start + EVENTS_AT_ONCE]
        new += writer.apply([arrival.event for arrival in batch], batch[-1].at)
    return new
