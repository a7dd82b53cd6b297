"""Work beside requests that rests in between, so that requests get their turn."""

from __future__ import annotations

import time


class Pace:
    """Rests in proportion to the work that its thread has done.

    Parameters
    ----------
    rest_share
        Seconds of rest a second of processor time; 0 never rests.
    """

    def __init__(self, rest_share: float = 0.0) -> None:
        self.rest_share = rest_share
        self._rested_at_s = time.thread_time()

    def rest(self) -> None:
        """Call it after a piece of work, from the thread that did it."""
        if self.rest_share:
            worked_s = time.thread_time() - self._rested_at_s
            time.sleep(max(worked_s, 0) * self.rest_share)
            self._rested_at_s = time.thread_time()


def ease(rest_share: float, busy_s: float) -> float:
    """Give the share of rest for work that has not been done with for so many seconds.

    Who is behind rests less: half as much after a second, a quarter after three.

    Examples
    --------
    >>> [ease(6.0, busy_s) for busy_s in (0.0, 1.0, 3.0)]
    [6.0, 3.0, 1.5]
    """
    return rest_share / (1 + busy_s)
