"""How much each caller may ask: a bucket of tokens that fills steadily."""

from __future__ import annotations

import math
from collections import OrderedDict

LARGEST_CALLERS = 10_000


class RateLimit:
    """One bucket a caller; a request takes a token, and waits for none.

    Parameters
    ----------
    per_second
        Tokens that come back each second.
    burst
        Tokens that a bucket holds.
    callers
        Buckets that are kept; those unused longest go first. A bucket that was forgotten is full.

    Examples
    --------
    >>> limit = RateLimit(per_second=2, burst=2)
    >>> [limit.wait_s("me", now_s=0.0) for _ in range(3)]
    [0, 0, 1]
    >>> limit.wait_s("you", now_s=0.0), limit.wait_s("me", now_s=0.5)
    (0, 0)
    """

    def __init__(self, per_second: float, burst: int, callers: int = LARGEST_CALLERS) -> None:
        self.per_second = per_second
        self.burst = burst
        self.callers = callers
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, caller: str, now_s: float) -> int:
        """Take a token; 0 when there was one, else whole seconds until there will be."""
        tokens, filled_at_s = self._buckets.get(caller, (float(self.burst), now_s))
        tokens = min(self.burst, tokens + (now_s - filled_at_s) * self.per_second)
        waits = 0 if tokens >= 1 else math.ceil((1 - tokens) / self.per_second)
        self._buckets[caller] = (tokens if waits else tokens - 1), now_s
        self._buckets.move_to_end(caller)
        if len(self._buckets) > self.callers:
            self._buckets.popitem(last=False)
        return waits
