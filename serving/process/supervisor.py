"""Keeps several workers running: each a process with a socket of its own on the shared port.

The sockets belong to the supervisor, and the kernel divides connections among them. Connections
to a worker that has died wait in its socket's queue for its successor.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

logger = logging.getLogger(__name__)

SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
LOOK_S = 0.5
RESTART_PAUSE_S = 1.0
"""So often at most a worker is started anew: one that cannot start must not use up the machine."""
STOP_LIMIT_S = 15.0
"""Longer than a worker takes to answer what it has begun."""
LISTENER_OPTION = "--listener"


@dataclass
class _Worker:
    """A worker's place; its process changes."""

    listener: socket.socket
    process: subprocess.Popen[bytes] | None = None
    started_s: float = -RESTART_PAUSE_S


class Supervisor:
    """Starts workers, starts those anew that die, and stops all when told to.

    Parameters
    ----------
    command
        Starts a worker when the number of its inherited socket follows.
    listeners
        One socket a worker.
    """

    def __init__(self, command: Sequence[str], listeners: Sequence[socket.socket]) -> None:
        self.command = command
        self.workers = [_Worker(listener) for listener in listeners]

    def run(self) -> None:
        """Run until SIGTERM or SIGINT; every worker has ended then."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        while True:
            for worker in self.workers:
                self._keep(worker)
            told = signal.sigtimedwait(SIGNALS, LOOK_S)
            if told is not None and told.si_signo != signal.SIGCHLD:
                break
        self._stop()

    def _keep(self, worker: _Worker) -> None:
        """Start a worker that does not run."""
        ended = worker.process.poll() if worker.process else None
        if worker.process is not None and ended is None:
            return
        if time.monotonic() - worker.started_s < RESTART_PAUSE_S:
            return
        if worker.process is not None:
            logger.warning("a worker ended with %d: starting another", ended)
        number = worker.listener.fileno()
        # A worker whose standard input ends stops: the supervisor is gone.
        worker.process = subprocess.Popen(
            [*self.command, LISTENER_OPTION, str(number)],
            stdin=subprocess.PIPE,
            pass_fds=[number],
        )
        worker.started_s = time.monotonic()

    def _stop(self) -> None:
        """Let every worker end in order; what hangs is ended."""
        for worker in self.workers:
            worker.listener.close()  # new connections reach other processes on the port
        running = [each.process for each in self.workers if each.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + STOP_LIMIT_S
        for process in running:
            try:
                process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                logger.error("a worker has not ended within %g s: it is killed", STOP_LIMIT_S)
                process.kill()
                process.wait()


def become_worker(number: int) -> socket.socket:
    """Take the socket that the supervisor has passed, and end when the supervisor is gone."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    threading.Thread(target=_end_alone, name="supervisor", daemon=True).start()
    return socket.socket(fileno=number)


def _end_alone() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
