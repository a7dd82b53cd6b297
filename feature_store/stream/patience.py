"""Waiting for a store that does not answer: with growing pauses, and saying so once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
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

    def call(self, action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call an action until no store keeps it from its work.

        Raises
        ------
        Stopped
            If it is told to stop before that.
        StoreUnavailable
            If the store refuses what it is given, and would refuse it again.
        """
        since, pause_s = time.monotonic(), FIRST_PAUSE_S
        while True:
            try:
                answer = action(*args, **kwargs)
            except StoreUnavailable as error:
                if refuses_values(error):
                    raise
                self._wait(error, pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            if self.problem is not None:
                logger.info("stream: goes on after %.1f s", time.monotonic() - since)
                self.problem = None
            return answer

    def _wait(self, error: StoreUnavailable, pause_s: float) -> None:
        if self.problem is None:
            logger.warning("stream: waits, nothing is lost: %s", error)
        self.problem = str(error)
        if self.stopping.wait(pause_s):
            raise Stopped
        try:
            self.meanwhile()
        except StoreUnavailable:
            return  # the very store that it waits for


def refuses_values(error: Exception) -> bool:
    """Whether a store answered, but cannot take some value: waiting does not help."""
    from psycopg import DataError, IntegrityError

    return isinstance(error.__cause__, DataError | IntegrityError)
