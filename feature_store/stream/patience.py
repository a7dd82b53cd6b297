"""Waiting for a store that does not answer: with growing pauses, and saying so once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

from feature_store.errors import StoreUnavailable

logger = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0

P = ParamSpec("P")
T = TypeVar("T")


class Stopped(Exception):
    """The consumer was told to stop while it waited for a store."""


class Patience:
    """Does things again until the stores answer.

    Parameters
    ----------
    stopping
        Set when it is to give up.
    meanwhile
        Called between attempts; what it raises of the stores is ignored.
    """

    def __init__(self, stopping: threading.Event, meanwhile: Callable[[], object]) -> None:
        self.stopping = stopping
        self.meanwhile = meanwhile
        self.problem: str | None = None
        self._since = 0.0
        self._waiting = 0
        self._lock = threading.Lock()

    def call(self, action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call an action until no store keeps it from its work; several threads may do so.

        Raises
        ------
        Stopped
            If it is told to stop before that.
        StoreUnavailable
            If the store refuses what it is given, and would refuse it again.
        """
        try:
            return action(*args, **kwargs)
        except StoreUnavailable as error:
            if refuses_values(error):
                raise
            self._begin_waiting(error)
        try:
            return self._again(lambda: action(*args, **kwargs))
        finally:
            self._end_waiting()

    def _again(self, action: Callable[[], T]) -> T:
        pause_s = FIRST_PAUSE_S
        while True:
            if self.stopping.wait(pause_s):
                raise Stopped
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            with suppress(StoreUnavailable):  # it may be the very store that it waits for
                self.meanwhile()
            try:
                return action()
            except StoreUnavailable as error:
                if refuses_values(error):
                    raise
                self.problem = str(error)

    def _begin_waiting(self, error: StoreUnavailable) -> None:
        with self._lock:
            if not self._waiting:
                self._since = time.monotonic()
                logger.warning("stream: waits, nothing is lost: %s", error)
            self._waiting += 1
            self.problem = str(error)

    def _end_waiting(self) -> None:
        with self._lock:
            self._waiting -= 1
            if not self._waiting:
                self.problem = None
                logger.info("stream: waits no more, after %.1f s", time.monotonic() - self._since)


def refuses_values(error: Exception) -> bool:
    """Whether a store answered, but cannot take some value: waiting does not help."""
    from psycopg import DataError, IntegrityError

    return isinstance(error.__cause__, DataError | IntegrityError)
