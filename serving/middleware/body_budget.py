"""How many bytes of bodies a worker holds at once: memory is bounded before they are read."""

from __future__ import annotations

import asyncio
from collections import deque

from serving.errors import TooManyAtOnce


class BodyBudget:
    """The bytes of bodies that a worker holds at once; who comes when they are used up waits.

    Parameters
    ----------
    most_bytes
        How many.
    wait_s
        Longest wait for them.
    """

    def __init__(self, most_bytes: int, wait_s: float) -> None:
        self.most_bytes = most_bytes
        self.wait_s = wait_s
        self.held_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def hold(self, size: int) -> HeldBody:
        """Wait until a body of this size may be read; those who came first are first.

        Raises
        ------
        TooManyAtOnce
            If it may not be in time.
        """
        if self._waiting or self.held_bytes + size > self.most_bytes:
            await self._wait(size)
        else:
            self.held_bytes += size
        return HeldBody(self, size)

    async def _wait(self, size: int) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await asyncio.wait_for(asyncio.shield(turn), self.wait_s)
        except TimeoutError:
            self._give_up(size, turn)
            raise TooManyAtOnce(
                f"{self.most_bytes} bytes of bodies are being worked on, and there was no room "
                f"for {size} more within {self.wait_s:g} s. Try again in a moment."
            ) from None
        except asyncio.CancelledError:
            self._give_up(size, turn)
            raise

    def _give_up(self, size: int, turn: asyncio.Future[None]) -> None:
        if turn.done():
            self.release(size)
        else:
            self._waiting.remove((size, turn))
            self.release(0)

    def release(self, size: int) -> None:
        """Give bytes back; who waits gets them."""
        self.held_bytes -= size
        while self._waiting and self.held_bytes + self._waiting[0][0] <= self.most_bytes:
            wanted, turn = self._waiting.popleft()
            self.held_bytes += wanted
            turn.set_result(None)


class HeldBody:
    """Bytes that are held for one body; to be released once, from the event loop."""

    def __init__(self, budget: BodyBudget, size: int) -> None:
        self.budget = budget
        self.size = size

    def shrink(self, size: int) -> None:
        """Give back what the body has not needed."""
        self.budget.release(self.size - size)
        self.size = size

    def release(self) -> None:
        """Give all back."""
        self.shrink(0)
