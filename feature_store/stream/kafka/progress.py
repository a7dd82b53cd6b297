"""What of a partition is done without a gap: from there another consumer would go on."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass
class PartitionProgress:
    """The messages of a partition that were taken, and how far all of them are done.

    Parameters
    ----------
    read_to
        The offset from which messages are taken; all before it are done, or were taken.
    starts
        How often a consumer began here and died before anything was done.

    Examples
    --------
    >>> progress = PartitionProgress(read_to=5)
    >>> for offset in (5, 6, 9):
    ...     progress.take(offset)
    >>> progress.finish(6), progress.next_offset
    (None, 5)
    >>> progress.finish(5), progress.next_offset
    (None, 9)
    >>> progress.finish(9), progress.next_offset
    (None, 10)
    """

    read_to: int
    starts: int = 0
    _open: deque[int] = field(default_factory=deque)
    _done: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.began_at = self.read_to

    @property
    def next_offset(self) -> int:
        """The first message that is not done."""
        return self._open[0] if self._open else self.read_to

    def take(self, offset: int) -> None:
        """Note that a message is in hand."""
        self._open.append(offset)
        self.read_to = offset + 1

    def reach_end(self, offset: int) -> None:
        """Note that nothing is left before an offset: messages may lack, as after a compaction."""
        self.read_to = max(self.read_to, offset)

    def finish(self, offset: int) -> None:
        """Note that a message is done; again does no harm."""
        if offset >= self.next_offset:
            self._done.add(offset)
        while self._open and self._open[0] in self._done:
            self._done.discard(self._open.popleft())
