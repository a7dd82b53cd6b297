"""Work that goes on beside the requests, again and again, whatever fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from configs.errors import FTIError, reason_of

logger = logging.getLogger(__name__)

LONGEST_PAUSE_S = 1.0


class Repeating:
    """Calls an action in a thread of its own until it is stopped.

    While the action fails the pauses grow, up to a second; the first failure
    and the recovery are logged, not every attempt.

    Parameters
    ----------
    name
        Of the thread and in the log.
    action
        What to do; an exception is a failure.
    interval_s
        Pause after a success.
    """

    def __init__(self, name: str, action: Callable[[], object], interval_s: float) -> None:
        self.name = name
        self.action = action
        self.interval_s = interval_s
        self.problem: str | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; the first call of the action comes at once."""
        self._thread.start()

    def stop(self, patience_s: float = 5.0) -> None:
        """Let a call that is under way finish, as far as the patience reaches."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(patience_s)

    def attempt(self) -> bool:
        """Call the action once; tell whether it succeeded."""
        try:
            self.action()
        # A thread that ends silently would be worse than any error: everything is reported.
        except Exception as error:
            if self.problem is None:
                is_defect = not isinstance(error, FTIError | OSError)
                logger.warning("%s: failing: %s", self.name, error, exc_info=is_defect)
            self.problem = reason_of(error) or type(error).__name__
            return False
        if self.problem is not None:
            logger.info("%s: recovered", self.name)
            self.problem = None
        return True

    def _run(self) -> None:
        pause_s = self.interval_s
        while not self._stopped.is_set():
            pause_s = self.interval_s if self.attempt() else min(2 * pause_s, LONGEST_PAUSE_S)
            self._stopped.wait(pause_s)
