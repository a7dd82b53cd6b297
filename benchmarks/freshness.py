"""From an event to the new value online: the delay at two rates, and the highest rate.

Half of the events change a profile, half are activity; the consumer is a process of its own, as
in production, and all 48,842 users have full rows in both stores. The delay counts from the time
at which an event was due to be appended (open loop), to the first look at the online row of its
user that shows it. At the highest rate events are appended as fast as a backlog of at most 10,000
allows; they were made before, and only what both stores hold counts.

The published reference is the two minutes that the pipeline of the field's textbook example needs.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

import numpy as np

from benchmarks.harness.report import Report, is_quick
from benchmarks.harness.stage import filled_stores, servers
from configs.settings import ROOT, Settings
from feature_store import connect
from feature_store.feature_definitions import MODEL_VIEW, USER_ACTIVITY
from feature_store.offline.events import ActivityEvent
from feature_store.profiles.writer import ProfileChange
from feature_store.stream.events import Event
from feature_store.stream.redis.event_stream import RedisEventStream

RATES = (100, 1_000)
PUBLISHED_S = 120.0
PATIENCE_S = 60.0
MOST_PER_S = 20_000
LOOK_S = 0.005
EVENT_TIME = slice(16, 24)  # of an online row, in both views
OCCUPATIONS = MODEL_VIEW.definitions["occupation"].categories


@dataclass
class Load:
    """Makes events; no user twice within 48,842 events, so that each one can be seen."""

    users: int
    numbers: Iterator[int]
    chance: random.Random

    def event(self, at: datetime) -> Event:
        """Make the next event, of a given time."""
        number = next(self.numbers)
        event_id, user = uuid.uuid4().hex, 1 + number % self.users
        if number % 2:
            return ActivityEvent(event_id, user, at, "purchase", self.chance.randint(100, 99_999))
        hours, occupation = self.chance.randint(1, 99), self.chance.choice(OCCUPATIONS)
        return ProfileChange(
            event_id, user, at, {"hours_per_week": hours, "occupation": occupation}
        )


@contextmanager
def consumer(settings: Settings) -> Iterator[None]:
    """Run a consumer, and wait until it consumes."""
    urls = {"DATABASE_URL": str(settings.database_url), "REDIS_URL": str(settings.redis_url)}
    process = subprocess.Popen(
        [sys.executable, "pipelines/feature_pipeline.py", "--mode", "stream"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **urls, "FTI_VAR_DIR": str(settings.var_dir)},
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


class Freshness:
    """Appends events at their times, and looks for them online.

    Parameters
    ----------
    settings
        Where the stores are.
    load
        Makes the events.
    """

    def __init__(self, settings: Settings, load: Load) -> None:
        self.project = settings.feature.project
        self.stream = connect.event_stream(settings)
        self.load = load
        profile = connect.online_store(settings)
        activity = connect.online_store(settings, schema=USER_ACTIVITY.schema)
        self.stores = {ProfileChange: profile, ActivityEvent: activity}
        self.client: Any = profile.client

    def delays_s(self, rate: int, seconds: float) -> list[float]:
        """Delay of each event of an open loop, from when it was due to be appended."""
        due = [time.time() + 0.1 + n / rate for n in range(int(rate * seconds))]
        waiting: dict[str, tuple[float, int]] = {}
        delays: list[float] = []
        appended = 0
        while appended < len(due) or waiting:
            now = time.time()
            assert now < due[-1] + PATIENCE_S, f"{len(waiting)} events do not show"
            ready = [at for at in due[appended : appended + 1_000] if at <= now]
            if ready:
                waiting |= self._append(ready)
                appended += len(ready)
            delays += self._read_seen(waiting)
            time.sleep(LOOK_S)
        return delays

    def _append(self, due: Sequence[float]) -> dict[str, tuple[float, int]]:
        """Append events; keys of their online rows, with due time and event time."""
        events = [self.load.event(datetime.fromtimestamp(at, UTC)) for at in due]
        self.stream.append(events)
        return {
            self.stores[type(event)].key(event.key): (at, round(event.time.timestamp() * 1e6))
            for at, event in zip(due, events, strict=True)
        }

    def _read_seen(self, waiting: dict[str, tuple[float, int]]) -> list[float]:
        if not waiting:
            return []
        keys = list(waiting)
        rows, now, delays = self.client.mget(keys), time.time(), []
        for key, row in zip(keys, rows, strict=True):
            due, event_us = waiting[key]
            if row and int.from_bytes(row[EVENT_TIME], "little", signed=True) >= event_us:
                delays.append(now - due)
                del waiting[key]
        return delays

    def await_empty(self) -> None:
        """Wait until nothing is left in the stream."""
        while self.stream.backlog():
            time.sleep(LOOK_S)

    def sustained_per_s(self, seconds: float) -> float:
        """Events done with a second, while they are appended as fast as the backlog allows."""
        narrow = RedisEventStream(self.client, self.project, 10_000)
        now = datetime.now(UTC)
        made = [self.load.event(now) for _ in range(int(seconds * MOST_PER_S))]
        start, appended = time.monotonic(), 0
        begun_s, done_before = 0.0, 0
        while (passed := time.monotonic() - start) < seconds and appended < len(made):
            appended += narrow.append(made[appended : appended + 1_000])
            if not begun_s and passed > seconds / 4:  # by then the backlog is at its limit
                begun_s, done_before = time.monotonic(), appended - narrow.backlog()
        done, took_s = appended - narrow.backlog(), time.monotonic() - begun_s
        self.await_empty()
        return (done - done_before) / took_s


def main() -> int:
    """Measure delays at both rates in turn, and the highest rate, round by round."""
    report = Report("freshness", packages=["psycopg", "redis"])
    rounds, seconds = (1, 3) if is_quick() else (3, 20)
    delays: dict[int, list[np.ndarray]] = {rate: [] for rate in RATES}
    sustained = []
    with servers() as settings:
        users = len(filled_stores(settings))
        freshness = Freshness(settings, Load(users, count(), random.Random(7)))
        with consumer(settings):
            freshness.delays_s(10, 3)  # the consumer is up, its tables are there
            for _ in range(rounds):
                for rate in RATES:
                    delays[rate].append(np.array(freshness.delays_s(rate, seconds)))
                sustained.append(freshness.sustained_per_s(seconds))
    for rate in RATES:
        for percent in (50, 99):
            found = [float(np.percentile(each, percent)) for each in delays[rate]]
            report.add(f"p{percent}_at_{rate}_per_s", "s", {"ours": found})
        report.target(f"ours_p99_at_{rate}_per_s", "<=", 1.0)
    report.add("freshness", "s", {"published": [PUBLISHED_S]})
    report.add("sustained", "events/s", {"ours": sustained})
    report.target("ours_sustained", ">=", 5_000)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
