"""The plan of a run: everything that decides its output, cut into chunks with fixed ids.

It is made once, before anything is scored, and kept beside what is being written: a chunk that is
done again, by a retried task or by ``--resume``, reads the same rows as of the same moment.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
from pydantic import TypeAdapter

from pipelines.batch.errors import InputUnusable
from pipelines.batch.inputs import InputFile, Kind
from pipelines.batch.keys import Keys, ascend, combine_checksums, first_duplicate, key_checksum

CHUNK_ROWS = 65_536
"""Most rows of one output file: 12 MB of features, and a file of 1 MB or so."""
FEWEST_ROWS, GOOD_CHUNKS = 8_192, 8
"""Small inputs are cut too, so that all cores have work, but not into crumbs."""


@dataclass(frozen=True)
class Chunk:
    """Rows that are scored together and become one file.

    Parameters
    ----------
    index
        Its place among all chunks, from 0.
    file
        Place of its file among those of the plan; -1 for the offline store.
    start, stop
        Rows of the file from ``start`` on and before ``stop``; of the store, first and last key.
    rows
        How many there are.
    """

    index: int
    file: int
    start: int
    stop: int
    rows: int


@dataclass(frozen=True)
class DeployedModel:
    """The version that scores: label and number, where its artifact is, and what that says."""

    label: str
    version: int
    uri: str
    digest: str
    generation: int
    fingerprint: str
    threshold: float


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Parameters
    ----------
    places, files
        The input as it was named, and the files that it stood for; both empty for all entities.
    kind, columns
        What its rows are, and which columns of it are read.
    as_of
        Features of events before this time.
    scored_at
        When the run began; features that the store learned later are not seen.
    limit
        Only so many rows; None for all.
    explain
        How many contributions are written for each row.
    is_logged
        Whether the predictions go to the prediction log.
    rows, checksum
        How many rows there are in all, and `key_checksum` of their keys.
    """

    places: tuple[str, ...]
    files: tuple[InputFile, ...]
    kind: Kind
    entity: str
    columns: tuple[str, ...]
    model: DeployedModel
    as_of: datetime
    scored_at: datetime
    limit: int | None
    explain: int
    is_logged: bool
    chunk_rows: int
    chunks: tuple[Chunk, ...]
    rows: int
    checksum: int

    @cached_property
    def id(self) -> str:
        """16 hex characters that stand for all of it."""
        return hashlib.sha256(self.to_json()).hexdigest()[:16]

    @property
    def partition(self) -> str:
        """The folder of its output: ``date=YYYY-MM-DD``, the day whose features it used."""
        return f"date={self.as_of:%Y-%m-%d}"

    def chunk_id(self, chunk: Chunk) -> str:
        """Names a chunk among all that were ever planned."""
        return f"batch-{self.id}-{chunk.index:05d}"

    def to_json(self) -> bytes:
        """The plan as JSON; `from_json` reads it back."""
        values = dataclasses.asdict(self)
        values |= {name: values[name].isoformat() for name in ("as_of", "scored_at")}
        return json.dumps(values, indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Plan:
        """Read what `to_json` gave."""
        return TypeAdapter(cls).validate_json(content)


class ChunkPlanner:
    """Cuts rows into chunks while their keys pass by, file after file.

    Parameters
    ----------
    chunk_rows
        Most rows of a chunk.
    limit
        Most rows in all.
    """

    def __init__(self, chunk_rows: int, limit: int | None) -> None:
        self.chunk_rows = chunk_rows
        self.limit = limit
        self.rows = 0
        self.checksum = 0
        self.ascends = True
        self.chunks: list[Chunk] = []
        self._last: int | None = None

    @property
    def is_full(self) -> bool:
        """Whether no more rows are wanted."""
        return self.limit is not None and self.rows >= self.limit

    def add(self, keys: Keys) -> Keys:
        """Look at the next keys ``(n,)``; return those that are within the limit."""
        if self.limit is not None:
            keys = keys[: self.limit - self.rows]
        if len(keys):
            self.checksum = combine_checksums([self.checksum, key_checksum(keys)])
            self.ascends = self.ascends and ascend(keys, self._last)
            self._last = int(keys[-1])
            self.rows += len(keys)
        return keys

    def cut_file(self, file: int, blocks: Iterable[Keys]) -> None:
        """Take the rows of a file, and cut them into chunks of equal length."""
        before = self.rows
        for keys in blocks:
            self.add(keys)
            if self.is_full:
                break
        n = self.rows - before
        rows = chunk_length(n, self.chunk_rows)
        for start in range(0, n, rows):
            stop = min(start + rows, n)
            self.chunks.append(Chunk(len(self.chunks), file, start, stop, stop - start))

    def cut_keys(self, blocks: Iterable[Keys]) -> None:
        """Take ascending keys of the store, and cut them into ranges of equally many."""
        pieces: list[tuple[int, int, int]] = []
        piece_rows = min(self.chunk_rows, FEWEST_ROWS)
        rest = np.empty(0, dtype=np.int64)
        for block in blocks:
            rest = np.concatenate([rest, self.add(block)])
            whole = len(rest) // piece_rows * piece_rows
            pieces += [_range(part) for part in _parts(rest[:whole], piece_rows)]
            rest = rest[whole:]
            if self.is_full:
                break
        pieces += [_range(part) for part in _parts(rest, piece_rows)]
        together = max(1, chunk_length(self.rows, self.chunk_rows) // piece_rows)
        for start in range(0, len(pieces), together):
            some = pieces[start : start + together]
            rows = sum(n for _, _, n in some)
            self.chunks.append(Chunk(len(self.chunks), -1, some[0][0], some[-1][1], rows))

    def refuse_unusable(
        self, entity: str, again: Iterator[Keys], name_of: Callable[[int], str] = str
    ) -> None:
        """Raise if there are no rows, or a key comes twice.

        Parameters
        ----------
        again
            All keys once more.
        name_of
            What a person calls a key, by its identity.

        Raises
        ------
        InputUnusable
            If so.
        """
        if not self.rows:
            raise InputUnusable("The input has no rows. Nothing was written.")
        twice = None if self.ascends else first_duplicate(again)
        if twice is not None:
            raise InputUnusable(
                f"{entity} {name_of(twice)} comes more than once in the input. Keep one row "
                "of each."
            )


def chunk_length(rows: int, most: int) -> int:
    """How long the chunks of so many rows are: all alike, and at most ``most``.

    Examples
    --------
    >>> [chunk_length(rows, 65_536) for rows in (100, 48_842, 200_000, 10_000_000)]
    [100, 8141, 25000, 65360]
    """
    wanted = min(most, max(FEWEST_ROWS, -(-rows // GOOD_CHUNKS)))
    return max(1, -(-rows // max(1, -(-rows // wanted))))


def changed_files(before: Sequence[InputFile], now: Sequence[InputFile]) -> list[str]:
    """Paths of files that are new, gone, or not as they were."""
    return sorted({file.path for file in set(before) ^ set(now)})


def _range(keys: Keys) -> tuple[int, int, int]:
    """First and last key, and how many there are."""
    return int(keys[0]), int(keys[-1]), len(keys)


def _parts(keys: Keys, rows: int) -> list[Keys]:
    return [keys[start : start + rows] for start in range(0, len(keys), rows)]
