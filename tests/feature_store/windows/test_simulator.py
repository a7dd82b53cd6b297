"""The simulator repeats itself, and holds what makes events hard for a store."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import chain

from feature_store.windows.simulator import Arrival, simulate

END = datetime(2026, 3, 1, tzinfo=UTC)


def arrivals(seed: int = 7, users: int = 300, days: int = 30) -> list[Arrival]:
    return list(chain.from_iterable(simulate(users, days, seed, END)))


def test_the_same_seed_gives_the_same_events_and_another_others() -> None:
    assert arrivals(users=20) == arrivals(users=20)
    assert arrivals(users=20) != arrivals(seed=8, users=20)


def test_events_arrive_in_order_after_they_happened_and_before_the_end() -> None:
    every = arrivals()
    times = [each.at for each in every]
    assert times == sorted(times)
    assert all(each.event.time < each.at < END for each in every)
    assert all(END - timedelta(days=30) <= each.event.time for each in every)


def test_each_list_is_one_day() -> None:
    for place, day in enumerate(simulate(50, 10, 7, END)):
        start = END - timedelta(days=10 - place)
        assert all(start <= each.at < start + timedelta(days=1) for each in day)


def test_some_are_late_some_come_twice_and_some_out_of_order() -> None:
    every = arrivals()
    late = sum(each.at - each.event.time > timedelta(hours=1) for each in every) / len(every)
    ids = Counter(each.event.event_id for each in every)
    twice = sum(count == 2 for count in ids.values()) / len(ids)
    happened = [each.event.time for each in every]
    assert 0.005 < late < 0.05
    assert 0.003 < twice < 0.03
    assert happened != sorted(happened)


def test_users_differ_and_some_go_quiet() -> None:
    every = arrivals()
    by_user = Counter(each.event.key for each in every)
    counts = sorted(by_user.values())
    assert counts[-1] > 8 * counts[len(counts) // 2]
    newest = {each.event.key: each.event.time for each in every}
    quiet = sum(time < END - timedelta(days=7) for time in newest.values())
    assert quiet > 20


def test_purchases_have_amounts_and_refunds_give_them_back() -> None:
    for each in arrivals():
        kind, cents = each.event.event_type, each.event.amount_cents
        if kind == "purchase":
            assert cents > 0
        elif kind == "refund":
            assert cents < 0
        else:
            assert cents is None
