"""The connections of a worker: how many, how long silent, and how much they leave unread."""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections.abc import Callable
from typing import Protocol

from configs.http_config import HttpConfig
from serving.middleware.traffic import Traffic

logger = logging.getLogger(__name__)

SWEEP_S = 0.5
"""At the latest so long after its limit a connection is closed."""
SPARE_FILES = 128
"""Files that a worker needs besides its connections: stores, segments, models."""
MOST_FILES = 65_536
INVALID_PAUSE_S = 1.0
"""A line about requests that are no HTTP is logged so often at most."""


class Connection(Protocol):
    """What is asked of a connection.

    Attributes
    ----------
    since_s
        When it was opened, or its last answer had left; by the event loop's clock.
    """

    since_s: float

    @property
    def is_answering(self) -> bool:
        """Whether a request of its is being answered."""

    def abort(self) -> None:
        """Hang up at once; what was not sent is lost."""

    def close_late(self, now_s: float) -> None:
        """Close it if it exceeds a limit of time."""

    def unread_bytes(self) -> int:
        """Tell how much of its answers has not been taken."""


Place = dict[Connection, None]
"""Connections, those that came here first in front."""


class Connections:
    """All connections of a worker, by what they wait for.

    Parameters
    ----------
    limits
        What a connection may do.
    traffic
        Cancels requests whose bodies do not come.
    refuse
        Counts what is refused, by reason.

    Attributes
    ----------
    silent
        Those that have asked nothing yet; half a request is nothing.
    asked
        Those that have asked something, and may again.
    stalled
        Those of the others that do not take their answers.
    """

    def __init__(self, limits: HttpConfig, traffic: Traffic, refuse: Callable[[str], None]) -> None:
        self.limits = limits
        self.traffic = traffic
        self.refuse = refuse
        self.silent: Place = {}
        self.asked: Place = {}
        self.stalled: Place = {}
        self.most = min(limits.max_connections, _files() - SPARE_FILES)
        self._said_at_s = -INVALID_PAUSE_S
        self._unsaid = 0

    @property
    def number(self) -> int:
        """How many there are."""
        return len(self.silent) + len(self.asked)

    def make_room(self) -> bool:
        """Tell whether another one may stay; the one that was silent longest may have to go."""
        if self.number < self.most:
            return True
        self.refuse("connections")
        longest = next(iter(self.silent), None)
        if longest is None:
            idle = [each for each in self.asked if not each.is_answering]
            longest = min(idle, key=lambda each: each.since_s, default=None)
        if longest is None:
            return False
        longest.abort()
        return True

    def forget(self, connection: Connection) -> None:
        """Note that a connection is gone."""
        for place in (self.silent, self.asked, self.stalled):
            place.pop(connection, None)

    def note_stalled(self, connection: Connection) -> None:
        """Note that a caller does not read; hang up on the slowest ones when it is too much."""
        self.stalled[connection] = None
        unread = {each: each.unread_bytes() for each in self.stalled}
        total = sum(unread.values())
        for slowest, size in unread.items():
            if total <= self.limits.unread_bytes:
                break
            self.refuse("unread")
            slowest.abort()
            total -= size

    async def sweep(self) -> None:
        """Close what exceeds its limits of time, until this is cancelled."""
        limits, loop = self.limits, asyncio.get_running_loop()
        shortest_s = min(limits.head_limit_s, limits.body_limit_s, limits.keep_alive_s)
        while True:
            await asyncio.sleep(min(SWEEP_S, shortest_s / 2))
            now_s = loop.time()
            for place in (self.silent, self.asked):
                for connection in list(place):
                    connection.close_late(now_s)

    def say_invalid(self, peer: str, why: str) -> None:
        """Log that a caller sends no HTTP, once a second at most."""
        now_s = time.monotonic()
        if now_s - self._said_at_s < INVALID_PAUSE_S:
            self._unsaid += 1
            return
        fields: dict[str, object] = {"peer": peer, "reason": why}
        if self._unsaid:
            fields["left_out"], self._unsaid = self._unsaid, 0
        self._said_at_s = now_s
        logger.warning("refused what is no HTTP request", extra={"fields": fields})


def _files() -> int:
    """Let this process open as many files as it may; tell how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft
