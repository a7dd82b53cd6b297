"""The access log: one line for a request that may have to be explained later."""

from __future__ import annotations

import logging

logger = logging.getLogger("serving.access_log")
"""The name by which people filter these lines, wherever this module lies."""

LINES_PER_SECOND = 20
"""More would make an overload worse; the next line says how many were left out."""
FIRST_FAILURE = 500
LONGEST_PATH = 200


class AccessLog:
    """Writes a line for failed and slow requests, or for all; never a query, a body or a key.

    Parameters
    ----------
    every
        Whether each request gets a line.
    slow_s
        From this duration on a request is slow.
    """

    def __init__(self, *, every: bool, slow_s: float) -> None:
        self.every = every
        self.slow_s = slow_s
        self._second = 0
        self._lines = 0
        self._left_out = 0

    def deserves(self, status: int, duration_s: float) -> bool:
        """Tell whether a request gets a line."""
        return status >= FIRST_FAILURE or duration_s >= self.slow_s or self.every

    def write(
        self, method: str, path: str, status: int, duration_s: float, caller: str, now_s: float
    ) -> None:
        """Write a line, unless there were many in this second already.

        Parameters
        ----------
        caller
            Name of the key, or address.
        now_s
            By a monotonic clock.
        """
        if int(now_s) != self._second:
            self._second, self._lines = int(now_s), 0
        self._lines += 1
        if self._lines > LINES_PER_SECOND and not self.every:
            self._left_out += 1
            return
        fields: dict[str, object] = {
            "method": method,
            "path": path[:LONGEST_PATH],
            "status": status,
            "duration_ms": round(duration_s * 1000, 3),
            "caller": caller,
        }
        if self._left_out:
            fields["left_out"], self._left_out = self._left_out, 0
        level = logging.WARNING if status >= FIRST_FAILURE else logging.INFO
        logger.log(level, "answered", extra={"fields": fields})
