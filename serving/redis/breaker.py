"""When a server that failed is tried again: soon at first, then with growing pauses."""

from __future__ import annotations

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
"""With the time that one try may take it bounds how long a server's return goes unnoticed."""
STEADY_AFTER_S = 5.0
"""A server that fails again sooner than this was never well: pauses go on growing."""


class Breaker:
    """Opens when a server fails and closes when a try of our own succeeds; no caller has to try.

    Examples
    --------
    >>> breaker = Breaker()
    >>> breaker.open(now_s=100.0)
    >>> breaker.try_failed()
    >>> breaker.is_open, breaker.pause_s
    (True, 0.1)
    >>> breaker.close(now_s=101.0)
    >>> breaker.open(now_s=102.0)  # again so soon
    >>> breaker.pause_s
    0.2
    >>> breaker.close(now_s=103.0)
    >>> breaker.open(now_s=203.0)
    >>> breaker.pause_s, breaker.trips
    (0.05, 3)
    """

    def __init__(self) -> None:
        self.is_open = False
        self.trips = 0
        self.pause_s = FIRST_PAUSE_S
        self._closed_at_s: float | None = None

    def open(self, now_s: float) -> None:
        """Note that the server failed."""
        self.is_open = True
        self.trips += 1
        if self._closed_at_s is not None and now_s - self._closed_at_s < STEADY_AFTER_S:
            self.try_failed()
        else:
            self.pause_s = FIRST_PAUSE_S

    def try_failed(self) -> None:
        """Note that it still fails: the next pause is longer."""
        self.pause_s = min(2 * self.pause_s, LONGEST_PAUSE_S)

    def close(self, now_s: float) -> None:
        """Note that it answers again."""
        self.is_open = False
        self._closed_at_s = now_s
