"""Delimited text, block by block, into columns of texts; rows of another width are kept apart."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feature_store.errors import SourceError
from feature_store.sources.port import Broken

if TYPE_CHECKING:
    import polars as pl

BLOCK_BYTES = 4 * 1024 * 1024
"""Some 40,000 rows of the worked data."""
QUOTED_BYTES = 16 * BLOCK_BYTES
"""How far the end of a quoted field is looked for: a stray quote must not read all into memory."""


@dataclass(frozen=True)
class Mark:
    """A place between two lines of a text, and everything that is known of what lies before it.

    Parameters
    ----------
    size, sha256
        Bytes before it, and their digest.
    lines, rows
        Lines before it, and how many of them are rows.
    """

    size: int = 0
    sha256: str = hashlib.sha256().hexdigest()
    lines: int = 0
    rows: int = 0


BEGINNING = Mark()


@dataclass(frozen=True)
class TextBlock:
    """Whole lines of a text, or a last line without an end: more may be written to that one.

    Parameters
    ----------
    text
        The lines.
    first_line
        The number of the first one, counted from 1.
    size, sha256
        Bytes of the text up to the end of the block, and their digest.
    """

    text: str
    first_line: int
    size: int
    sha256: str

    @property
    def is_finished(self) -> bool:
        """Whether its last line has an end."""
        return self.text.endswith("\n")

    @property
    def lines(self) -> int:
        """How many lines have an end."""
        return self.text.count("\n")


@dataclass(frozen=True)
class SplitRows:
    """Rows of a block: lines ``(n,)`` counted from 1, columns of texts, and those not split."""

    lines: NDArray[np.int64]
    columns: pl.DataFrame
    broken: dict[int, Broken]


def text_blocks(stream: Any, path: str, after: Mark) -> Iterator[TextBlock]:
    """Yield whole lines after a mark, some 4 MiB at a time.

    Raises
    ------
    Rewritten
        If what lies before the mark is not what it was.
    SourceError
        If the text is not UTF-8.
    """
    digest = hashlib.sha256()
    _skip(stream, after, digest)
    size, line, rest = after.size, after.lines, b""
    while True:
        read = stream.read(BLOCK_BYTES)
        whole, rest = _cut(rest + read, at_end=not read)
        for part in (whole, rest if not read else b""):
            if part:
                digest.update(part)
                size += len(part)
                yield TextBlock(_decoded(part, path, line), line + 1, size, digest.hexdigest())
                line += part.count(b"\n")
        if not read:
            return


class Rewritten(Exception):
    """A file's beginning is no longer what was read earlier: it must be read from its start."""


def split_rows(
    block: TextBlock, columns: Sequence[str], delimiter: str, skip: int = 0
) -> SplitRows:
    """Split lines into columns of stripped texts; blank lines are none.

    Parameters
    ----------
    skip
        So many lines at the beginning of the block are no rows.
    """
    lines = block.text.removesuffix("\n").split("\n")[skip:]
    first = block.first_line + skip
    if '"' in block.text:
        return _quoted(lines, first, columns, delimiter)
    kept = [place for place, line in enumerate(lines) if line and not line.isspace()]
    if len(kept) < len(lines):
        lines = [lines[place] for place in kept]
    numbers = np.array(kept, dtype=np.int64) + first
    return _plain(lines, numbers, columns, delimiter)


def _plain(
    lines: list[str], numbers: NDArray[np.int64], columns: Sequence[str], delimiter: str
) -> SplitRows:
    import polars as pl

    width = len(columns)
    delimiters = pl.Series(lines, dtype=pl.String).str.count_matches(delimiter, literal=True)
    broken = {}
    for place in (delimiters != width - 1).arg_true().to_list():
        broken[place] = _ragged([text.strip() for text in lines[place].split(delimiter)], columns)
        lines[place] = delimiter * (width - 1) or " "
    texts = "\n".join(lines).encode()
    empty = pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
    frame = (
        empty
        if not lines
        else pl.read_csv(
            texts,
            has_header=False,
            new_columns=list(columns),
            separator=delimiter,
            quote_char=None,
            infer_schema=False,
        )
    )
    return SplitRows(numbers, frame.with_columns(pl.all().str.strip_chars()), broken)


def _quoted(lines: list[str], first: int, columns: Sequence[str], delimiter: str) -> SplitRows:
    """Slower: fields between quotes may hold delimiters and ends of lines."""
    import polars as pl

    numbers: list[int] = []
    texts: list[list[str]] = []
    broken: dict[int, Broken] = {}
    for number, row in _fields(lines, first, delimiter):
        fields = [field.strip() for field in row]
        if len(fields) > 1 or any(fields):
            if len(fields) != len(columns):
                broken[len(texts)] = _ragged(fields, columns)
                fields = [""] * len(columns)
            numbers.append(number)
            texts.append(fields)
    frame = pl.DataFrame(texts, schema=dict.fromkeys(columns, pl.String), orient="row")
    return SplitRows(np.array(numbers, dtype=np.int64), frame, broken)


def _fields(lines: list[str], first: int, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The fields of each row, with the line where it begins."""
    ended = (line + "\n" for line in lines)
    reader = csv.reader(ended, delimiter=delimiter, skipinitialspace=True)
    begin = first
    try:
        for row in reader:
            yield begin, row
            begin = first + reader.line_num
    except csv.Error as error:
        raise SourceError(
            f"Line {begin} cannot be split: {error}. Mend the quotes in the file."
        ) from error


def _ragged(fields: Sequence[str], columns: Sequence[str]) -> Broken:
    reason = f"the row has {len(fields)} fields, expected {len(columns)}"
    return Broken(reason, dict(zip(columns, fields, strict=False)))


def _skip(stream: Any, mark: Mark, digest: Any) -> None:
    left = mark.size
    while left:
        read = stream.read(min(left, BLOCK_BYTES))
        if not read:
            break
        digest.update(read)
        left -= len(read)
    if digest.hexdigest() != mark.sha256:
        raise Rewritten


def _cut(content: bytes, *, at_end: bool) -> tuple[bytes, bytes]:
    """Whole lines, and the beginning of the next one."""
    place = content.rfind(b"\n") + 1
    goes_on = content.count(b'"', 0, place) % 2 == 1 and len(content) < QUOTED_BYTES
    if goes_on and not at_end:
        return b"", content  # the end of the last line stands between quotes
    return content[:place], content[place:]


def _decoded(block: bytes, path: str, line: int) -> str:
    try:
        return block.decode("utf-8-sig" if line == 0 else "utf-8")
    except UnicodeDecodeError as error:
        where = line + block.count(b"\n", 0, error.start) + 1
        raise SourceError(
            f"The raw file {path} is not UTF-8 text: line {where} has the byte "
            f"0x{block[error.start]:02x}. Convert it, or name another format."
        ) from error
