"""What a consumer has done so far, for people and for monitoring."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from feature_store.online_store import translated
from feature_store.stream.redis.event_stream import stream_key

if TYPE_CHECKING:
    from redis import Redis

SILENT_AFTER_S = 60
"""A consumer reports every few seconds; one that has not for so long hangs or is dead."""
FORGOTTEN_AFTER_S = 600
"""The status of a consumer that has said nothing for so long is not shown any more."""


@dataclass
class ConsumerProgress:
    """Counts of one consumer since it started.

    Parameters
    ----------
    applied, duplicates, dead
        Events that had an effect, that had had it before, and that became dead letters.
    held_back
        Events that wait for their time.
    newest_event
        Event time of the newest event that was applied.
    delay_ms
        From the appending of the newest entry to the end of the batch that it was in.
    """

    applied: int = 0
    duplicates: int = 0
    dead: int = 0
    held_back: int = 0
    newest_event: datetime | None = None
    delay_ms: float | None = None

    @property
    def finished(self) -> int:
        """Events that the consumer is done with."""
        return self.applied + self.duplicates + self.dead

    def saw(self, newest_event: datetime, appended_ms: int, now: datetime) -> None:
        """Note what was applied last."""
        self.newest_event = max(newest_event, self.newest_event or newest_event)
        self.delay_ms = max(0.0, now.timestamp() * 1000 - appended_ms)


@dataclass(frozen=True)
class ConsumerStatus:
    """How a consumer is, as it is kept in Redis.

    Parameters
    ----------
    consumer
        Its name.
    at
        When that was so.
    events_per_s
        Events done with a second since the status before.
    backlog
        Entries in the stream; None when Redis was not asked.
    newest_event_age_s
        Age of the newest event that was applied.
    problem
        What keeps it from its work; None while all is well.
    """

    consumer: str
    at: datetime
    events_per_s: float
    applied: int
    duplicates: int
    dead: int
    held_back: int
    backlog: int | None
    newest_event_age_s: float | None
    delay_ms: float | None
    problem: str | None

    @classmethod
    def of(
        cls,
        consumer: str,
        progress: ConsumerProgress,
        now: datetime,
        *,
        events_per_s: float = 0.0,
        backlog: int | None = None,
        problem: str | None = None,
    ) -> ConsumerStatus:
        """Make a status of what a consumer has counted."""
        newest = progress.newest_event
        return cls(
            consumer=consumer,
            at=now,
            events_per_s=round(events_per_s, 1),
            applied=progress.applied,
            duplicates=progress.duplicates,
            dead=progress.dead,
            held_back=progress.held_back,
            backlog=backlog,
            newest_event_age_s=None if newest is None else (now - newest).total_seconds(),
            delay_ms=progress.delay_ms,
            problem=problem,
        )

    def as_seen(self, now: datetime) -> ConsumerStatus:
        """The status as it is to be shown: an old one does not tell how the consumer is now."""
        silent = now.astimezone(UTC) - self.at
        if silent.total_seconds() <= SILENT_AFTER_S:
            return self
        shown = timedelta(seconds=int(silent.total_seconds()))
        return replace(self, problem=f"silent for {shown}: it hangs or is dead")

    @property
    def line(self) -> str:
        """The status in one line."""
        parts = [f"{self.events_per_s:,.0f} events/s", f"{self.applied:,} applied"]
        counts = {
            "duplicates": self.duplicates,
            "dead letters": self.dead,
            "held back": self.held_back,
            "backlog": self.backlog,
        }
        parts += [f"{count:,} {name}" for name, count in counts.items() if count]
        if self.delay_ms is not None:
            parts.append(f"{self.delay_ms:,.0f} ms after appending")
        return ", ".join([*parts, *([f"waits: {self.problem}"] if self.problem else [])])


class StatusBoard:
    """The hash ``{project}:events:status``: consumer to its newest status, as JSON."""

    def __init__(self, client: Redis, project: str) -> None:
        self.client = client
        self.key = f"{stream_key(project)}:status"

    def write(self, status: ConsumerStatus) -> None:
        """Show a status in place of the consumer's last one."""
        with translated("take a status"):
            self.client.hset(self.key, status.consumer, json.dumps(asdict(status), default=str))

    def remove(self, consumer: str) -> None:
        """Take a consumer's status down."""
        with translated("take a status"):
            self.client.hdel(self.key, consumer)

    def read(self, now: datetime) -> list[ConsumerStatus]:
        """The newest status of each consumer, by name; not of those that died long ago."""
        return [status.as_seen(now) for status in self._all() if not _is_forgotten(status, now)]

    def forget_dead_consumers(self, now: datetime) -> None:
        """Take down what consumers said that have said nothing more for long."""
        for status in self._all():
            if _is_forgotten(status, now):
                self.remove(status.consumer)

    def _all(self) -> list[ConsumerStatus]:
        with translated("read"):
            found = self.client.hgetall(self.key)
        statuses = [json.loads(text) for text in dict(found).values()]  # type: ignore[arg-type]
        return sorted(
            (
                ConsumerStatus(**each | {"at": datetime.fromisoformat(each["at"])})
                for each in statuses
            ),
            key=lambda status: status.consumer,
        )


def _is_forgotten(status: ConsumerStatus, now: datetime) -> bool:
    return (now.astimezone(UTC) - status.at).total_seconds() > FORGOTTEN_AFTER_S
