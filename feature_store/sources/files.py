"""Raw rows out of files: delimited text or Parquet, one or many, on this machine or in S3.

New are the files that have not been read, what was added to a text since, and all of a file that
was rewritten. Where rows get their keys by counting, all that stands after a change is read again.
"""

from __future__ import annotations

import csv
import hashlib
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.sources import FileReading
from feature_store.errors import SourceError
from feature_store.sources.delimited import (
    BEGINNING,
    Mark,
    Rewritten,
    TextBlock,
    split_rows,
    text_blocks,
)
from feature_store.sources.filesystems import FoundFile, find_files
from feature_store.sources.port import Batch, Batches, Position, Reading, without_odd_times

if TYPE_CHECKING:
    import polars as pl

ROWS_PER_BATCH = 50_000
SHOWN_CHARACTERS = 200
RECENT_NS = 2_000_000_000
"""A file changed so lately may change again within the same tick of its clock."""


@dataclass(frozen=True)
class FileState:
    """What is known of a file that was read.

    Parameters
    ----------
    path
        Relative to the root where it can be.
    size, modified_ns
        As it was found; None when it had been changed too lately to tell a next change by it, or
        when rows of it are held back: then it is looked into again.
    changed_ns
        As it was found; -1 where that was not kept.
    rows
        How many there were.
    mark
        The end of its last whole line, or the place from which lines are read again; at the
        beginning for Parquet.
    columns
        As its first line names them; empty where the settings do.
    """

    path: str
    size: int
    modified_ns: int | None
    changed_ns: int = -1
    rows: int = 0
    mark: Mark = BEGINNING
    columns: tuple[str, ...] = ()

    @classmethod
    def of(cls, known: Mapping[str, Any]) -> FileState:
        """A state out of a position."""
        return cls(**{**known, "mark": Mark(**known["mark"]), "columns": tuple(known["columns"])})


FileBatches = Generator[Batch, bool | None, FileState]


@dataclass(eq=False)
class FileSource:
    """Rows of one or many files.

    Parameters
    ----------
    config
        Which files, and how they are written.
    root
        Where relative paths begin.
    environment
        Has the standard ``AWS_…`` variables for ``s3://``.
    is_counted
        Whether rows get their keys by counting.
    """

    config: FileReading
    root: Path
    environment: Mapping[str, str]
    _: KW_ONLY
    name: str = "files"
    is_counted: bool = True

    def read(self, after: Position | None = None) -> Reading:
        """Read all files, or what is new in them."""
        return Reading(self._batches(after or {"files": []}))

    def _batches(self, after: Position) -> Batches:
        known = [FileState.of(state) for state in after["files"]]
        by_path = {state.path: state for state in known}
        states: list[FileState] = []
        counted, is_shifted = 0, False
        for place, file in enumerate(self._list_files()):
            path = self._short(file)
            before = None if is_shifted else by_path.get(path)
            state = yield from self._file(file, path, before, counted)
            counted += state.rows
            states.append(state)
            if self.is_counted and place < len(known):
                is_shifted |= known[place].path != path or known[place].rows != state.rows
        return {"files": [asdict(state) for state in states]}

    def _list_files(self) -> Sequence[FoundFile]:
        listed = {
            file.path: file
            for entry in self.config.files
            for file in find_files(entry, self.root, self.environment)
        }
        return list(listed.values())

    def _short(self, file: FoundFile) -> str:
        return file.path.removeprefix(f"{self.root}/")

    def _file(
        self, file: FoundFile, path: str, before: FileState | None, counted: int
    ) -> FileBatches:
        is_recent = time.time_ns() - file.modified_ns < RECENT_NS
        modified = None if is_recent else file.modified_ns
        fresh = FileState(path, file.size, modified, file.changed_ns)
        if before and _is_same(before, file):
            return before
        if self._is_parquet(file):
            return (yield from _parquet_rows(file, self.config, fresh, counted))
        if before:
            try:
                grown = replace(fresh, mark=before.mark, columns=before.columns)
                return (yield from self._text_rows(file, grown, counted))
            except Rewritten:
                pass
        return (yield from self._text_rows(file, fresh, counted))

    def _text_rows(self, file: FoundFile, state: FileState, counted: int) -> FileBatches:
        mark, columns, rows = state.mark, state.columns, state.mark.rows
        digest, again_from = mark.sha256, None
        with file.open() as stream:
            for block in text_blocks(stream, file.path, mark):
                skip = 0
                if block.first_line == 1:
                    skip, columns = self._heading(file, block)
                    if skip > block.lines:
                        return state  # not even its heading is complete: next time from the start
                found = split_rows(
                    block, columns or self.config.columns, self.config.delimiter, skip
                )
                if len(found.lines) and (
                    yield _batch(file, found.lines, counted + rows, found.columns, found.broken)
                ):
                    again_from = again_from or mark
                rows += len(found.lines)
                digest = block.sha256
                if block.is_finished:
                    lines = mark.lines + block.lines
                    mark = Mark(block.size, block.sha256, lines, rows)
        _check_digest(file, digest)
        if again_from is not None:
            state, mark = replace(state, modified_ns=None), again_from
        return replace(state, rows=rows, mark=mark, columns=columns)

    def _heading(self, file: FoundFile, block: TextBlock) -> tuple[int, tuple[str, ...]]:
        """How many lines at the beginning are no rows, and the names in them if they have any."""
        skip = file.settings.skip_lines
        if self.config.columns or skip >= block.lines:
            return skip + (not self.config.columns), ()
        lines = block.text.split("\n")[skip:]
        names = next(csv.reader(lines, delimiter=self.config.delimiter, skipinitialspace=True), [])
        heading = tuple(name.strip() for name in names)
        _refuse_heading(file.path, heading)
        return skip + 1, heading

    def _is_parquet(self, file: FoundFile) -> bool:
        if self.config.format == "auto":
            return file.path.endswith(".parquet")
        return self.config.format == "parquet"


def _parquet_rows(
    file: FoundFile, config: FileReading, state: FileState, counted: int
) -> FileBatches:
    import polars as pl
    import pyarrow.parquet as pq

    if file.settings.sha256:
        _check_digest(file, _digest(file))
    rows = 0
    with file.open_anywhere() as opened:
        table = pq.ParquetFile(opened)
        _refuse_heading(file.path, table.schema_arrow.names)
        for part in table.iter_batches(ROWS_PER_BATCH, columns=list(config.columns) or None):
            frame, odd = without_odd_times(pl.DataFrame(pl.from_arrow(part)))
            lines = np.arange(rows + 1, rows + len(frame) + 1, dtype=np.int64)
            if (yield _batch(file, lines, counted + rows, frame, odd)):
                state = replace(state, modified_ns=None)
            rows += len(frame)
    return replace(state, rows=rows)


def _refuse_heading(path: str, names: Sequence[str]) -> None:
    """Refuse names that cannot be told apart; a file without a heading has a row in its place."""
    twice = [name for name in names if names.count(name) > 1]
    if not twice and all(names):
        return
    what = (
        f"the name '{twice[0]}' {names.count(twice[0])} times"
        if twice and twice[0]
        else ("a column without a name")
    )
    shown = ", ".join(names)
    raise SourceError(
        f"The raw file {path} has {what} in its heading: {shown[:SHOWN_CHARACTERS]}. Name each "
        "column once, or, if the file has no heading, name its columns in 'source.columns'."
    )


def _is_same(known: FileState, file: FoundFile) -> bool:
    """Whether nothing tells that a file has been changed since."""
    return (known.size, known.modified_ns, known.changed_ns) == (
        *(file.size, file.modified_ns, file.changed_ns),
    )


def _batch(file: FoundFile, lines: Any, counted: int, columns: pl.DataFrame, broken: Any) -> Batch:
    ordinals = np.arange(counted + 1, counted + len(lines) + 1, dtype=np.int64)
    return Batch(file.name, lines, ordinals, columns, broken)


def _digest(file: FoundFile) -> str:
    digest = hashlib.sha256()
    with file.open() as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _check_digest(file: FoundFile, found: str) -> None:
    expected = file.settings.sha256
    if expected is not None and found != expected:
        raise SourceError(
            f"The raw file {file.path} has SHA-256 {found}, expected {expected}. Restore the "
            "original, or set 'source.files' to the new hash if the change is meant."
        )
