"""What one process of a host does for all its workers: stage deployments, ship the log."""

from __future__ import annotations

import threading
from collections.abc import Callable

from infrastructure.background import Repeating
from serving.deployment.host_lock import HostLock


class HostAgent:
    """Works while it holds the host's lock; another process takes over when that one ends.

    Parameters
    ----------
    lock
        Of the host; each process has an agent, and one of them holds it.
    stage, ship
        One step of the work, and of the other; each is called again and again from a thread.
    stage_interval_s, ship_interval_s
        Pauses between the steps.
    """

    def __init__(
        self,
        lock: HostLock,
        stage: Callable[[], object],
        ship: Callable[[], object],
        stage_interval_s: float,
        ship_interval_s: float,
    ) -> None:
        self.lock = lock
        self.ship = ship
        self.has_looked = threading.Event()
        self.staging = Repeating("deployments", lambda: self._look(stage), stage_interval_s)
        self.shipping = Repeating("prediction log", self._ship, ship_interval_s)

    def start(self) -> None:
        """Begin; `has_looked` is set when the first step of staging is over."""
        self.staging.start()
        self.shipping.start()

    def stop(self) -> None:
        """End, and leave the lock to others; receipts are shipped first, whoever holds it."""
        self.staging.stop()
        self.shipping.stop()
        self.shipping.action = self.ship
        self.shipping.attempt()
        self.lock.release()

    def _look(self, stage: Callable[[], object]) -> None:
        try:
            if self.lock.held():
                stage()
        finally:
            self.has_looked.set()

    def _ship(self) -> None:
        if self.lock.held():
            self.ship()
