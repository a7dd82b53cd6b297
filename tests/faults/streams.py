"""A stream with consumers that are processes, and what the stores must hold in the end."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from configs.settings import ROOT, Settings, load_settings
from feature_store import connect
from feature_store.feature_definitions import MODEL_VIEW, USER_ACTIVITY
from feature_store.offline.events import ActivityEvent
from feature_store.profiles.writer import ProfileChange
from feature_store.stream.events import Event
from feature_store.stream.port import EventStream
from infrastructure import embedded
from infrastructure.servers import services
from tests.worlds.databases import own_database
from tests.worlds.profile_oracle import FullRow, as_matrix, state
from tests.worlds.strategies import bits

USERS = range(1, 41)
PATIENCE_S = 90
POISONED = ("-m", "tests.faults.poisoned_consumer")
PIPELINE = ("pipelines/feature_pipeline.py", "--mode", "stream")
SMALL: dict[str, Any] = {"batch_rows": 100, "claim_idle_ms": 500, "report_s": 0.2}


@dataclass
class StreamWorld:
    """Stores of a test's own on the servers of ``var``, and the consumers that it started."""

    var: Settings
    project: str
    settings: Settings
    events: EventStream
    full: list[FullRow] = field(default_factory=list)
    appended: dict[str, Event] = field(default_factory=dict)
    consumers: list[subprocess.Popen[str]] = field(default_factory=list)

    def append(self, events: Sequence[Event]) -> None:
        """Append events, and remember them for the oracle."""
        self.appended |= {event.event_id: event for event in events}
        self.events.append(events)

    def append_full_rows(self, rows: Sequence[FullRow]) -> None:
        """What the batch pipeline does with full rows."""
        self.full += rows
        matrix, created = as_matrix(rows), datetime.now(UTC)
        connect.offline_store(self.settings).append(matrix, "user_id", created)
        connect.online_store(self.settings).write(matrix, created)
        connect.profile_writer(self.settings).reconcile(matrix.keys, matrix.times)

    def consume(self, *arguments: str, program: Sequence[str] = PIPELINE) -> subprocess.Popen[str]:
        """Start a consumer."""
        stream = self.settings.feature.stream.model_dump()
        environment = {
            "DATABASE_URL": str(self.settings.database_url),
            "REDIS_URL": str(self.settings.redis_url),
            "FTI_VAR_DIR": str(self.settings.var_dir),
            "FTI_FEATURE__PROJECT": self.project,
            "FTI_FEATURE__STREAM__ORIGIN": stream["origin"],
            **{f"FTI_FEATURE__STREAM__{name.upper()}": str(stream[name]) for name in SMALL},
        }
        process = subprocess.Popen(
            [sys.executable, *program, *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
        )
        self.consumers.append(process)
        return process

    def drain(self) -> str:
        """Run a consumer until the stream is empty; return what it said."""
        process = self.consume("--until-empty")
        said, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, said
        return said

    def command(self, *arguments: str) -> Any:
        """Run a command of the feature store; return the JSON that it prints."""
        process = self.consume(*arguments, "--json", program=("-m", "feature_store"))
        return json.loads(process.communicate(timeout=PATIENCE_S)[0])

    def await_backlog(self, most: int) -> None:
        """Wait until no more entries are left."""
        deadline = time.monotonic() + PATIENCE_S
        while self.events.backlog() > most:
            assert time.monotonic() < deadline, f"{self.events.backlog()} entries are left"
            time.sleep(0.02)

    def signal_server(self, name: str, number: int) -> None:
        """Send a signal to every process of a server."""
        running = services.find(name, self.var)
        assert running is not None
        os.killpg(os.getpgid(running.pid), number)

    def assert_every_event_counts_once(self) -> None:
        """Compare everything that is stored with what follows from the events by brute force."""
        events = self.appended.values()
        changes = [event for event in events if isinstance(event, ProfileChange)]
        activity = [event for event in events if isinstance(event, ActivityEvent)]
        self._assert_logged(changes, activity)
        asked = [(change.key, change.time) for change in changes]
        keys = np.array([key for key, _ in asked], dtype=np.int64)
        times = np.array([at.replace(tzinfo=None) for _, at in asked], dtype="datetime64[us]")
        offline, online = connect.offline_store(self.settings), connect.online_store(self.settings)
        rows, _ = offline.historical(MODEL_VIEW.schema, "user_id", keys, times)
        for vector, (key, at) in zip(rows.values, asked, strict=True):
            assert np.array_equal(bits(vector), bits(self._state(key, at, changes))), (key, at)
        for key in {change.key for change in changes}:
            newest = self._state(key, datetime.now(UTC), changes)
            assert np.array_equal(bits(online.read(key).vector), bits(newest)), key
        self._assert_windows(sorted({event.key for event in activity}))

    def _state(self, key: int, at: datetime, changes: Sequence[ProfileChange]) -> np.ndarray:
        found = state(key, at, self.full, changes)
        assert found is not None
        return found

    def _assert_logged(
        self, changes: Sequence[ProfileChange], activity: Sequence[ActivityEvent]
    ) -> None:
        with psycopg.connect(str(self.settings.database_url)) as connection:
            logged = connection.execute(
                "SELECT event_id, user_id, event_timestamp, attributes FROM profile_changes"
            ).fetchall()
            stored = connection.execute(
                "SELECT event_id, user_id, event_timestamp, event_type, amount_cents "
                "FROM user_events"
            ).fetchall()
        assert len(logged) == len(changes)
        assert {row[0]: ProfileChange(*row) for row in logged} == {c.event_id: c for c in changes}
        assert len(stored) == len(activity)
        assert {row[0]: ActivityEvent(*row) for row in stored} == {a.event_id: a for a in activity}

    def _assert_windows(self, keys: Sequence[int]) -> None:
        """The rows that consumers wrote are those that follow from all events at once."""
        online = connect.online_store(self.settings, schema=USER_ACTIVITY.schema)
        names = [online.key(key) for key in keys]
        before: Any = online.client.mget(names)
        assert connect.activity_writer(self.settings).rebuild() == len(keys)
        after: Any = online.client.mget(names)
        assert all(before)
        for mine, rebuilt in zip(before, after, strict=True):
            assert mine[:24] + mine[32:] == rebuilt[:24] + rebuilt[32:]  # all but the created time


@contextmanager
def stream_world(var: Settings, **stream: Any) -> Iterator[StreamWorld]:
    """A world on running servers; at its end its consumers are ended."""
    project = f"s{uuid.uuid4().hex[:10]}"
    with own_database(var) as url:
        settings = load_settings(
            var_dir=var.var_dir,
            database_url=url,
            redis_url=embedded.redis_url(var),
            feature={"project": project, "stream": SMALL | stream},
        )
        world = StreamWorld(var, project, settings, connect.event_stream(settings))
        try:
            yield world
        finally:
            for process in world.consumers:
                if process.poll() is None:
                    kill(process)


def random_events(n: int, seed: int) -> list[Event]:
    """Changes and activity of a few users, out of order, all of the last hour."""
    chance, now = random.Random(seed), datetime.now(UTC)
    features = [f for f in MODEL_VIEW.raw_features if f.name not in {"race", "sex"}]
    events: list[Event] = []
    for number in range(n):
        event_id, key = f"{seed}-{number}", chance.choice(USERS)
        at = now - timedelta(seconds=chance.randint(1, 3600))
        if chance.random() < 0.5:
            kind = chance.choice(["view", "purchase", "never seen"])
            amount = chance.choice([None, chance.randint(-500, 9_999)])
            events.append(ActivityEvent(event_id, key, at, kind, amount))
            continue
        attributes: dict[str, Any] = {}
        for feature in chance.sample(features, chance.randint(1, 4)):
            low, high = feature.valid_range or (0, 0)
            words = (*feature.categories, "never seen")
            value = (
                chance.choice(words) if feature.categories else chance.randint(int(low), int(high))
            )
            attributes[feature.name] = chance.choice([value, value, value, None])
        events.append(ProfileChange(event_id, key, at, attributes))
    return events


def kill(process: subprocess.Popen[str]) -> None:
    """End a process as a power cut does."""
    process.send_signal(signal.SIGKILL)
    process.communicate()


def full_rows(at: datetime) -> list[FullRow]:
    """A full row of every user."""
    return [FullRow(key, at, {"age": 30 + key % 40, "education": "HS-grad"}) for key in USERS]


def kill_again_and_again(world: StreamWorld, kills: int, events: int) -> None:
    """Kill consumers in the middle of the load, and compare what is stored in the end."""
    chance, now = random.Random(events), datetime.now(UTC)
    world.append_full_rows(full_rows(now - timedelta(minutes=40)))
    all_events = random_events(events, seed=events)
    share = events // kills
    for place in range(kills):
        some = all_events[place * share : (place + 1) * share]
        world.append(some + chance.sample(some, share // 10))
        before = world.events.backlog()
        consumer = world.consume()
        world.await_backlog(before - chance.randint(1, share // 2))
        time.sleep(chance.random() * 0.1)
        kill(consumer)
    world.append_full_rows(full_rows(now - timedelta(minutes=20)))
    said = world.drain()
    assert world.events.backlog() == 0, said
    assert connect.dead_letters(world.settings).count() == 0, said
    world.assert_every_event_counts_once()


def assert_poison_ends_as_a_dead_letter(world: StreamWorld, events: Sequence[Event]) -> None:
    """One event kills every consumer that takes it; the others go through."""
    poison = ProfileChange("poison", 1, datetime.now(UTC) - timedelta(hours=1), {"age": 30})
    first = 2 * len(events) // 3
    world.append(events[:first])
    world.events.append([poison])
    world.append(events[first:])
    deaths = 0
    while (consumer := world.consume("--until-empty", program=POISONED)).wait(60) != 0:
        assert consumer.returncode == 9, consumer.communicate()[0]
        deaths += 1
    assert deaths == 2 + world.settings.feature.stream.max_tries
    [letter] = connect.dead_letters(world.settings).newest(10)
    assert letter.fields[b"event_id"] == b"poison"
    assert "no consumer survived it" in letter.reason
    world.assert_every_event_counts_once()


def assert_commands_append_and_tell(
    world: StreamWorld, folder: Path, letters: str | None = None
) -> dict[str, Any]:
    """Append events from a file by command line, a bad one among them; return the status.

    Parameters
    ----------
    letters
        Which dead letters are replayed; None for the one that there is.
    """
    lines = [
        {"kind": "profile", "event_id": "e1", "user_id": 7, "attributes": {"age": 36}},
        {"kind": "activity", "event_id": "e2", "user_id": 7, "event_type": "view"},
        {"kind": "profile", "event_id": "e3", "user_id": 7, "attributes": {"agee": 36}},
    ]
    at = {"event_timestamp": "2026-01-05T12:00:00Z"}
    file = folder / "events.jsonl"
    file.write_text("\n".join(json.dumps(line | at) for line in lines) + "\n\n")
    assert world.command("append-events", str(file)) == {"appended": 3, "backlog": 3}
    assert "2 applied, 1 dead letters" in world.drain()
    [letter] = world.command("dead-letters")["dead_letters"]
    assert letter["event"]["event_id"] == "e3"
    assert letter["event"]["attributes"] == '{"agee": 36}'
    assert "did you mean 'age'?" in letter["reason"]
    assert world.command("dead-letters", "--replay", letters or letter["id"]) == {"replayed": 1}
    found: dict[str, Any] = world.command("stream-status")
    assert (found["backlog"], found["dead_letters"], found["consumers"]) == (1, 0, [])
    row = connect.online_store(world.settings).read(7)
    assert MODEL_VIEW.schema.decode(row.vector)["age"] == 36
    return found


def stopped(consumer: subprocess.Popen[str], within_s: float = 3.0) -> str:
    """What a consumer said until it had stopped in order."""
    start = time.monotonic()
    consumer.send_signal(signal.SIGTERM)
    said, _ = consumer.communicate(timeout=30)
    assert consumer.returncode == 0, said
    assert time.monotonic() - start < within_s, said
    return said
