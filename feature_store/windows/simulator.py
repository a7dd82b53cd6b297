"""Synthetic events of users who do not exist: seeded, so the same every time.

What makes it hard for a store is in it: users of very different activity, some who join late or go
quiet, days and weeks with a rhythm, bursts, events that arrive hours late, out of order or twice.
Nothing about it was fitted to people; ids begin with ``sim-``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from feature_store.offline.events import ActivityEvent

EVENT_TYPES = ("view", "cart", "purchase", "refund")
EVENTS_A_DAY = 1.0
"""Median over the users while they are active; the busiest of a thousand make some twenty."""
BURST_SHARE, BURST_FACTOR = 0.01, 8.0
"""So many of a user's days are bursts, with so many times the events."""
LATE_SHARE, LATE_HOURS = 0.02, 6.0
TWICE_SHARE = 0.01
WEEKEND_FACTOR = 0.6
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Arrival:
    """An event, and when it arrives."""

    event: ActivityEvent
    at: datetime


@dataclass(frozen=True)
class Habits:
    """What users are like, each an array ``(users,)``.

    Parameters
    ----------
    rate
        Events a day while active.
    joins, leaves
        First and last day of activity, counted from the first one of the simulation.
    peak_hour
        Hour of the day around which the events lie.
    buys
        Share of the events that are purchases.
    basket
        Median of a purchase, in cents.
    """

    rate: NDArray[np.float64]
    joins: NDArray[np.float64]
    leaves: NDArray[np.float64]
    peak_hour: NDArray[np.float64]
    buys: NDArray[np.float64]
    basket: NDArray[np.float64]

    @classmethod
    def of(cls, users: int, days: int, seed: int) -> Habits:
        """Users as the seed has them."""
        random = np.random.default_rng([seed, 0])
        return cls(
            rate=random.lognormal(np.log(EVENTS_A_DAY), 1.0, users),
            joins=np.where(random.random(users) < 0.2, random.uniform(0, days, users), 0),
            leaves=np.where(random.random(users) < 0.3, random.uniform(0, days, users), np.inf),
            peak_hour=random.choice([9.0, 13.0, 20.0], users) + random.normal(0, 1, users),
            buys=random.beta(2, 18, users),
            basket=random.lognormal(np.log(2_500), 0.7, users),
        )


def simulate(users: int, days: int, seed: int, end: datetime) -> Iterator[list[Arrival]]:
    """Everything that arrives in the days before ``end``: a list a day, in order of arrival.

    Users are numbered from 1. What would arrive at ``end`` or later is left out.

    Examples
    --------
    >>> from datetime import UTC
    >>> days = list(simulate(users=100, days=3, seed=7, end=datetime(2026, 1, 4, tzinfo=UTC)))
    >>> len(days), days[0][0].event.event_id[:6]
    (3, 'sim-7-')
    """
    habits = Habits.of(users, days, seed)
    waiting: list[Arrival] = []
    for day in range(days):
        start = end - (days - day) * DAY
        waiting += _arrivals(habits, day, seed, start)
        waiting.sort(key=lambda arrival: (arrival.at, arrival.event.event_id))
        yield [arrival for arrival in waiting if arrival.at < start + DAY]
        waiting = [arrival for arrival in waiting if arrival.at >= start + DAY]


def _arrivals(habits: Habits, day: int, seed: int, start: datetime) -> list[Arrival]:
    """The events of one day, and when each arrives; some do so twice."""
    random = np.random.default_rng([seed, day + 1])
    places = _who(habits, day, start, random)
    n = len(places)
    hours = (habits.peak_hour[places] + random.normal(0, 3, n)) % 24
    types = _types(habits, places, random)
    cents = np.maximum(1, habits.basket[places] * random.lognormal(0, 0.5, n)).astype(np.int64)
    seconds = random.exponential(2.0, n)
    late = random.random(n) < LATE_SHARE
    seconds[late] += random.exponential(LATE_HOURS * 3600, late.sum())
    twice, again = random.random(n) < TWICE_SHARE, random.exponential(60.0, n)
    arrivals = []
    for place in range(n):
        kind = EVENT_TYPES[types[place]]
        amount = {"purchase": 1, "refund": -1}.get(kind)
        time = start + timedelta(hours=float(hours[place]))
        event = ActivityEvent(
            event_id=f"sim-{seed}-{day}-{place}",
            key=int(places[place]) + 1,
            time=time,
            event_type=kind,
            amount_cents=None if amount is None else amount * int(cents[place]),
        )
        at = time + timedelta(seconds=float(seconds[place]), microseconds=1)
        arrivals.append(Arrival(event, at))
        if twice[place]:
            arrivals.append(Arrival(event, at + timedelta(seconds=float(again[place]))))
    return arrivals


def _who(
    habits: Habits, day: int, start: datetime, random: np.random.Generator
) -> NDArray[np.int64]:
    """Place of the user of each event of a day."""
    users = len(habits.rate)
    active = (habits.joins <= day) & (day <= habits.leaves)
    factor = np.where(random.random(users) < BURST_SHARE, BURST_FACTOR, 1.0)
    weekend = WEEKEND_FACTOR if start.weekday() >= 5 else 1.0
    return np.repeat(np.arange(users), random.poisson(habits.rate * active * factor * weekend))


def _types(
    habits: Habits, places: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.int64]:
    """Place of the type of each event in `EVENT_TYPES`."""
    chance, buys = random.random(len(places)), habits.buys[places]
    return np.select([chance < 0.03 * buys, chance < buys, chance < buys + 0.15], [3, 2, 1], 0)
