"""The consumer: from the entries of the stream to the stores, each with effect exactly once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from configs.feature_config import StreamConfig
from feature_store.definitions.horizon import Horizon
from feature_store.errors import InvalidEvent, StoreUnavailable
from feature_store.stream.events import Event, EventParser
from feature_store.stream.port import ConsumerGroup, Entry, Refused
from feature_store.stream.progress import ConsumerProgress
from feature_store.stream.retry import Patience, Stopped, Waiting, isolate

logger = logging.getLogger(__name__)

SMALLER = 20
"""By so much smaller are the batches in which entries are tried that were delivered before."""
ALONE_FROM = 3
"""From this delivery on an entry is tried alone: one that kills its consumer takes no others."""
RETRY_PAUSE_S = 0.2
LONG_BATCH_S = 5.0
"""A batch takes a fraction of a second; if it takes so long, a store hangs."""


class Writer(Protocol):
    """Where events of one kind go."""

    def apply(self, events: Sequence[Any], now: datetime) -> int:
        """Apply events, each with effect once; return how many were new."""


@dataclass(frozen=True)
class Taken:
    """An entry with the event that it holds."""

    entry: Entry
    event: Event


class StreamConsumer:
    """Takes entries, checks them, has them applied, and is done with them.

    An entry is acknowledged after both stores hold its effect. After a crash before that it is
    delivered again, and the writers apply each event once.

    Parameters
    ----------
    group
        Its hold on the stream.
    parser
        Checks what arrives.
    writers
        Kind of event to where it goes.
    config
        Sizes, times and limits.
    max_ahead
        An event ahead of now is held back until its time has come; further ahead it is refused.
    clock
        Says what time it is, in UTC.
    """

    def __init__(
        self,
        group: ConsumerGroup,
        parser: EventParser,
        writers: Mapping[type, Writer],
        config: StreamConfig,
        max_ahead: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        self.group = group
        self.parser = parser
        self.writers = writers
        self.config = config
        self.max_ahead = max_ahead
        self.clock = clock
        self.progress = ConsumerProgress()
        self.stopping = threading.Event()
        self.patience = Patience(self.stopping, self._keep_what_is_ours)
        self.held_back, self.retries = Waiting(), Waiting()
        self._in_hand: list[Entry] = []
        self._busy_since: float | None = None
        self._next_claim = self._next_keep = 0.0
        self._threads = ThreadPoolExecutor(len(writers), thread_name_prefix="writer")
        self._counting = threading.Lock()

    def run(self, *, until_empty: bool = False) -> None:
        """Consume until told to stop, or until only events are left whose time has not come.

        A batch in hand is finished first, unless a store does not answer.
        """
        try:
            while not self.stopping.is_set():
                entries = self._in_hand = self._next_entries()
                self._busy_since = time.monotonic()
                self._handle(entries)
                self._busy_since, self._in_hand = None, []
                if until_empty and not entries and self._is_empty():
                    break
        except Stopped:
            logger.warning("stream: stopped while it waited; what it had in hand comes again")
        finally:
            self._threads.shutdown()
            self._leave()

    def stop(self) -> None:
        """Let `run` end after the batch in hand."""
        self.stopping.set()

    @property
    def problem(self) -> str | None:
        """What keeps it from its work; None while all is well."""
        if self.patience.problem is not None or self._busy_since is None:
            return self.patience.problem
        busy_s = time.monotonic() - self._busy_since
        return f"a batch is in hand for {busy_s:.0f} s" if busy_s > LONG_BATCH_S else None

    def _next_entries(self) -> list[Entry]:
        """Entries whose time has come, those of dead consumers, and new ones."""
        if time.monotonic() >= self._next_keep:
            self.patience.call(self._keep_what_is_ours)
        rows = self.config.batch_rows
        entries = self.retries.due(self.clock(), rows)
        entries += self.held_back.due(self.clock(), rows - len(entries))
        entries = [entry for entry in entries if self.group.owns(entry)]
        if time.monotonic() >= self._next_claim:
            entries += self._claim(rows)
        if len(entries) < rows and len(self.held_back) < self.config.max_held_back:
            block_ms = None if entries else self._block_ms()
            entries += self.patience.call(self.group.take, rows - len(entries), block_ms)
        elif not entries:
            self.stopping.wait(self._block_ms() / 1000)
        return entries

    def _claim(self, rows: int) -> list[Entry]:
        claimed = self.patience.call(self.group.claim, self.config.claim_idle_ms, rows)
        if not claimed:
            self._next_claim = time.monotonic() + self.config.claim_idle_ms / 2000
            self.patience.call(self.group.forget_dead_consumers)
        ours = {*self.held_back.ids, *self.retries.ids}
        return [entry for entry in claimed if entry.id not in ours]

    def _block_ms(self) -> int:
        """How long to wait for new entries: not beyond the time of one that waits."""
        times = filter(None, (self.retries.next_time, self.held_back.next_time))
        left = [int((due - self.clock()).total_seconds() * 1000) + 1 for due in times]
        return max(1, min([self.config.block_ms, *left]))

    def _handle(self, entries: Sequence[Entry]) -> None:
        ready, refused = self._parse(entries)
        self._settle([], refused)
        fresh = [taken for taken in ready if taken.entry.deliveries == 1]
        again = [taken for taken in ready if 1 < taken.entry.deliveries < ALONE_FROM]
        suspects = [taken for taken in ready if taken.entry.deliveries >= ALONE_FROM]
        size = max(1, self.config.batch_rows // SMALLER)
        for batch in (fresh, *(again[n : n + size] for n in range(0, len(again), size))):
            suspects += self._apply_together(batch)
        for taken in suspects:
            self._try_alone(taken)
        self.progress.held_back = len(self.held_back)

    def _parse(self, entries: Iterable[Entry]) -> tuple[list[Taken], list[Refused]]:
        """Events that can be applied now, and entries that never can; others wait."""
        ready, refused = list[Taken](), list[Refused]()
        horizon = Horizon(self.clock(), self.max_ahead)
        for entry in entries:
            try:
                if entry.problem is not None:
                    raise InvalidEvent(entry.problem)
                event = self.parser.parse(entry.fields)
            except InvalidEvent as error:
                refused.append(Refused(entry, str(error)))
                continue
            if event.time > horizon.latest:
                refused.append(Refused(entry, horizon.refusal(event.time)))
            elif event.time >= horizon.now:
                self.held_back.add(entry, event.time)
            else:
                ready.append(Taken(entry, event))
        return ready, refused

    def _apply_together(self, batch: Sequence[Taken]) -> list[Taken]:
        """Apply events, both kinds at once, and be done with them; return those that failed."""
        kinds = [
            [taken for taken in batch if isinstance(taken.event, kind)] for kind in self.writers
        ]
        kinds = [some for some in kinds if some]
        # Each waits for PostgreSQL and Redis most of the time; alone a kind needs no thread.
        outcomes = (self._threads.map if len(kinds) > 1 else map)(self._apply, kinds)
        failed, refused, done = list[Taken](), list[Refused](), list[Taken]()
        for some, failures in zip(kinds, outcomes, strict=True):
            for place, error in failures.items():
                if isinstance(error, InvalidEvent):  # and it would be again
                    refused.append(Refused(some[place].entry, str(error), 1))
                else:
                    failed.append(some[place])
            done += [each for place, each in enumerate(some) if place not in failures]
        self._done(done)
        self._settle([], refused)
        return failed

    def _apply(self, some: Sequence[Taken]) -> dict[int, Exception]:
        """Apply events of one kind; what was raised, by place."""
        writer = self.writers[type(some[0].event)]

        def apply(events: Sequence[Event]) -> int:
            return self.patience.call(writer.apply, events, self.clock())

        new, failures = isolate([taken.event for taken in some], apply)
        with self._counting:
            self.progress.applied += new
            self.progress.duplicates += len(some) - len(failures) - new
        return failures

    def _try_alone(self, taken: Taken) -> None:
        """Try an event that failed or was delivered often, a bounded number of times in all."""
        tries = self.patience.call(self.group.begin_try, taken.entry)
        failures: Mapping[int, Exception]
        if tries > self.config.max_tries:
            failures = {0: RuntimeError("no consumer survived it")}
        else:
            failures = self._apply([taken])
        if not failures:
            self._done([taken])
        elif isinstance(failures[0], InvalidEvent):
            self._settle([], [Refused(taken.entry, str(failures[0]), tries)])
        elif tries >= self.config.max_tries:
            reason = f"{type(failures[0]).__name__}: {failures[0]}"
            self._settle([], [Refused(taken.entry, reason, min(tries, self.config.max_tries))])
        else:
            again = replace(taken.entry, deliveries=ALONE_FROM)
            self.retries.add(again, self.clock() + timedelta(seconds=RETRY_PAUSE_S * tries))

    def _done(self, batch: Sequence[Taken]) -> None:
        if batch:
            self._settle([taken.entry.id for taken in batch], [])
            newest = max(taken.event.time for taken in batch)
            appended_ms = max(taken.entry.appended_ms for taken in batch)
            self.progress.saw(newest, appended_ms, self.clock())

    def _settle(self, done: Sequence[bytes], refused: Sequence[Refused]) -> None:
        if done or refused:
            self.patience.call(self.group.settle, done, refused, self.clock())
        if refused:
            first = f"{refused[0].entry.id.decode()}: {refused[0].reason}"
            logger.warning("stream: %d dead letters, the first is %s", len(refused), first)
        self.progress.dead += len(refused)

    def _keep_what_is_ours(self) -> None:
        """Tell the group that this consumer lives and looks after what it has."""
        self._next_keep = time.monotonic() + self.config.claim_idle_ms / 3000
        self.group.keep(self._ours())

    def _ours(self) -> list[bytes]:
        in_hand = [entry.id for entry in self._in_hand]
        return [*self.held_back.ids, *self.retries.ids, *in_hand]

    def _is_empty(self) -> bool:
        return self.patience.call(self.group.backlog) <= len(self.held_back)

    def _leave(self) -> None:
        try:
            self.group.leave(self._ours())
        except StoreUnavailable as error:
            logger.warning("stream: left without a word: %s", error)
