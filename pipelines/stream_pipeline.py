"""The stream pipeline: events in as they come, features out to both stores within a second.

python pipelines/feature_pipeline.py --mode stream
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from types import FrameType

from tqdm import tqdm

from configs.command_line import done, note
from configs.settings import Settings
from feature_store import connect
from feature_store.errors import StoreUnavailable
from feature_store.stream.consumer import StreamConsumer
from feature_store.stream.progress import ConsumerStatus, StatusBoard
from infrastructure.background import Repeating
from serving.process.logs import log_as_json

LIVE_LINE_S = 0.5
LAST_WAIT_S = 5
"""So long a store that does not answer may keep a consumer that was told to stop."""


def run_stream(settings: Settings, *, until_empty: bool = False) -> ConsumerStatus:
    """Consume the stream of events until it is empty, or until SIGTERM or SIGINT.

    The first signal lets the batch in hand be finished, a second one ends the process at once.

    Returns
    -------
    What this consumer has done.
    """
    log_as_json()
    name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    consumer = connect.stream_consumer(settings, name)
    reporter = Reporter(settings, consumer)
    done(f"Consuming {consumer.group.source} as {name}")
    with stop_on_signals(consumer), reporter.report_regularly():
        consumer.run(until_empty=until_empty)
    status = reporter.status()
    done(f"Stopped: {status.line}")
    return status


class Reporter:
    """Shows how a consumer gets on: to people, and in Redis to everybody else."""

    def __init__(self, settings: Settings, consumer: StreamConsumer) -> None:
        client = connect.redis_client(settings, settings.feature.online.write_deadline_ms)
        self.consumer = consumer
        self.board = StatusBoard(client, settings.feature.project)
        self.stream = connect.event_stream(settings)
        self.is_terminal = sys.stderr.isatty()
        self.interval_s = LIVE_LINE_S if self.is_terminal else settings.feature.stream.report_s
        self._last = (time.monotonic(), 0)
        self._bar = tqdm(unit=" events", disable=not self.is_terminal, leave=False)

    @contextmanager
    def report_regularly(self) -> Iterator[None]:
        """Report every few seconds while the body runs."""
        repeating = Repeating("stream status", self.report, self.interval_s)
        repeating.start()
        try:
            yield
        finally:
            repeating.stop(patience_s=1)
            self._bar.close()
            with suppress(StoreUnavailable):
                self.board.remove(self.consumer.group.consumer)

    def status(self, backlog: int | None = None) -> ConsumerStatus:
        """How the consumer is now."""
        finished, now_s = self.consumer.progress.finished, time.monotonic()
        since_s, before = self._last
        self._last = (now_s, finished)
        return ConsumerStatus.of(
            self.consumer.group.consumer,
            self.consumer.progress,
            datetime.now(UTC),
            events_per_s=(finished - before) / max(now_s - since_s, 1e-3),
            backlog=backlog,
            problem=self.consumer.problem,
        )

    def report(self) -> None:
        """Show the status; what Redis cannot be told is at least seen here."""
        backlog = None
        with suppress(StoreUnavailable):
            backlog = self.stream.backlog()
        status = self.status(backlog)
        if self.is_terminal:
            self._bar.n = self.consumer.progress.finished
            self._bar.set_postfix_str(status.line)
        else:
            note(status.line)
        if backlog is not None:
            self.board.write(status)
            self.board.forget_dead_consumers(status.at)


@contextmanager
def stop_on_signals(consumer: StreamConsumer) -> Iterator[None]:
    """Let SIGTERM and SIGINT end the consumer in order, and a second one at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        if consumer.stopping.is_set():
            os._exit(128 + number)
        consumer.stop()
        # What is in hand then is not acknowledged, and delivered again.
        signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
        signal.alarm(LAST_WAIT_S)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)
