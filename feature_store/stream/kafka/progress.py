"""What of a partition is done without a gap: from there another consumer would go on."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field

from feature_store.errors import FeatureStoreError

logger = logging.getLogger(__name__)


@dataclass
class PartitionProgress:
    """The messages of a partition that were taken, and how far all of them are done.

    Parameters
    ----------
    read_to
        The offset from which messages are taken; all before it are done, or were taken.
    deaths, suspect_to
        How many consumers in a row died of what lies before this offset.

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
    deaths: int = 0
    suspect_to: int = 0
    _open: deque[int] = field(default_factory=deque)
    _done: set[int] = field(default_factory=set)

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


def starting_offset(source: str, partition: int, stored: int, low: int, high: int) -> int:
    """From where a partition is read: behind what is done, or at the first that it still has.

    Raises
    ------
    FeatureStoreError
        If it ends before what was done of it: it is another one than it was.
    """
    if stored > high:
        raise FeatureStoreError(
            f"Partition {partition} of {source} ends at {high}, and it is done up to {stored} "
            "already: the topic was made anew or lost messages. Name another group in "
            "'feature.stream.kafka.group' to read it from its beginning; events count once."
        )
    if stored < low:
        logger.error(
            "stream: %d messages of partition %d of %s are gone that were not done: the broker "
            "keeps them for a shorter time than the consumers were away",
            *(low - stored, partition, source),
        )
    return max(stored, low)
