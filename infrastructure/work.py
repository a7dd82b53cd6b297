"""Threads for one kind of work of an event loop: bounded, queued for a while, with a deadline."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any, ParamSpec, TypeVar

from infrastructure.errors import WorkOverdue, WorkRefused

T = TypeVar("T")
P = ParamSpec("P")
ENDS_WITHIN_S = 5.0
"""So long a pool that is closed waits for what is under way to notice."""
LOOK_S = 0.005


class _Leave:
    """Whether a piece of work may go on, from now on for at most ``limit_s`` seconds."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.ends_at_s = time.monotonic() + limit_s
        self.is_cancelled = False

    @property
    def overdue(self) -> WorkOverdue:
        return WorkOverdue(f"It is not done after {self.limit_s:g} s, and was given up. Ask later.")


_leave: ContextVar[_Leave | None] = ContextVar("leave", default=None)


def checkpoint() -> None:
    """End the piece of work that this thread does for a `WorkPool`, if it may not go on.

    Long work calls it now and then: a thread cannot be ended from outside. Elsewhere it does
    nothing.

    Raises
    ------
    WorkOverdue
        If nobody waits for the result any more, or the time is over.
    """
    leave = _leave.get()
    if leave is None:
        return
    if leave.is_cancelled:
        raise WorkOverdue("Nobody waits for this any more.")
    if time.monotonic() > leave.ends_at_s:
        raise leave.overdue


class Room:
    """Room for pieces of different sizes; who finds none waits, first come, first served.

    A piece larger than all the room is let in alone.

    Parameters
    ----------
    what
        What fills it, in a message: "batches are being answered".
    size
        Most that is in it at once, in the unit of the pieces: rows, bytes.
    wait_s
        Longest wait for room.
    pieces
        Most pieces at once.
    """

    def __init__(self, what: str, size: int, wait_s: float, pieces: float = math.inf) -> None:
        self.what = what
        self.size = size
        self.wait_s = wait_s
        self.pieces = pieces
        self.taken = 0
        self.inside = 0
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()

    async def enter(self, size: int) -> None:
        """Wait until there is room, and take it.

        Raises
        ------
        WorkRefused
            If there is none in time.
        """
        if not self._waiting and self._has_room(size):
            self._take(size)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = turn, size
        self._waiting.append(place)
        try:
            async with asyncio.timeout(self.wait_s):
                await asyncio.shield(turn)
        except (asyncio.CancelledError, TimeoutError) as error:
            if place in self._waiting:
                self._waiting.remove(place)
                self._let_in()  # it may have been in the way of smaller ones
            elif turn.exception() is None:
                self.leave(size)  # it was let in in the very moment in which it gave up
            if isinstance(error, asyncio.CancelledError):
                raise
            raise WorkRefused(
                f"As many {self.what} as may be at once, and there was no room for another within "
                f"{self.wait_s:g} s. Try again in a moment."
            ) from None

    def leave(self, size: int) -> None:
        """Give back the room of a piece."""
        self.inside -= 1
        self.shrink(size)

    def shrink(self, size: int) -> None:
        """Give back some room of a piece that stays."""
        self.taken -= size
        self._let_in()

    def close(self) -> None:
        """Refuse all who wait."""
        while self._waiting:
            self._waiting.popleft()[0].set_exception(WorkRefused("The API is stopping."))

    def _has_room(self, size: int) -> bool:
        if self.inside >= self.pieces:
            return False
        return self.taken + size <= self.size or not self.inside

    def _take(self, size: int) -> None:
        self.inside += 1
        self.taken += size

    def _let_in(self) -> None:
        while self._waiting and self._has_room(self._waiting[0][1]):
            turn, size = self._waiting.popleft()
            self._take(size)
            turn.set_result(None)


class WorkPool:
    """Threads of one kind of work: what one kind takes, no other kind lacks.

    Work is admitted by its size, in the order in which it came; see `Room`.

    Parameters
    ----------
    name
        What is done, in a message: "batches are being answered".
    threads
        Most pieces at once.
    room
        Most that is under way at once, in the unit of the sizes: rows, say.
    wait_s
        Longest wait for room.
    limit_s
        Longest time of a piece from its admission on. Then its caller is told, and the piece
        itself ends at its next `checkpoint`.
    """

    def __init__(
        self, name: str, threads: int, *, room: int, wait_s: float, limit_s: float
    ) -> None:
        self.name = name
        self.threads = threads
        self.room = Room(name, room, wait_s, pieces=threads)
        self.limit_s = limit_s
        self._running: set[_Leave] = set()
        self._executor: ThreadPoolExecutor | None = None

    async def run(
        self,
        action: Callable[P, T],
        *arguments: P.args,
        **options: P.kwargs,
    ) -> T:
        """Do a piece of work of size 1; see `run_sized`."""
        return await self.run_sized(1, action, *arguments, **options)

    async def run_sized(
        self,
        size: int,
        action: Callable[P, T],
        *arguments: P.args,
        **options: P.kwargs,
    ) -> T:
        """Do a piece of work in a thread, and wait for it.

        When whoever waits is cancelled, so is the piece.

        Raises
        ------
        WorkRefused
            If there is no room for it within the time that it may wait.
        WorkOverdue
            If it takes longer than it may.
        """
        await self.room.enter(size)
        leave = _Leave(self.limit_s)
        loop, context = asyncio.get_running_loop(), copy_context()
        context.run(_leave.set, leave)
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix=self.name)
        self._running.add(leave)
        answer: asyncio.Future[T] = loop.create_future()
        end = partial(self._end, leave, size, answer)
        job = self._executor.submit(context.run, _begin, partial(action, *arguments, **options))
        job.add_done_callback(partial(_tell, loop, end))
        try:
            async with asyncio.timeout(self.limit_s) as limit:
                return await answer
        except TimeoutError:
            if not limit.expired():
                raise  # of the action's own
            raise leave.overdue from None
        finally:
            leave.is_cancelled = True
            # An error of the work refers to this frame. Together they would keep what it worked
            # on, some megabytes, until the garbage collector comes by.
            del job, answer, end

    async def close(self) -> None:
        """End what is under way, as soon as it notices, and refuse what waits."""
        for leave in self._running:
            leave.is_cancelled = True
        self.room.close()
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)
        patience_s = time.monotonic() + ENDS_WITHIN_S
        while self._running and time.monotonic() < patience_s:
            await asyncio.sleep(LOOK_S)

    def _end(self, leave: _Leave, size: int, answer: asyncio.Future[Any], job: Future[Any]) -> None:
        self._running.discard(leave)
        self.room.leave(size)
        if answer.done():
            return
        error = job.exception()
        if error is None:
            answer.set_result(job.result())
        else:
            answer.set_exception(error)


def _begin(action: Callable[[], T]) -> T:
    checkpoint()
    return action()


def _tell(
    loop: asyncio.AbstractEventLoop, end: Callable[[Future[Any]], None], job: Future[Any]
) -> None:
    with suppress(RuntimeError):  # the loop has ended meanwhile: nobody waits for room any more
        loop.call_soon_threadsafe(end, job)
