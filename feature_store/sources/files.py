"""Raw rows out of checksummed delimited files."""

from __future__ import annotations

import csv
import gzip
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.settings import SourceConfig, SourceFile
from feature_store.errors import SourceError


@dataclass(frozen=True)
class RawRow:
    """One line of a file, split: where it stood and its texts, stripped."""

    source: str
    line_number: int
    texts: Sequence[str]


def read_rows(config: SourceConfig, root: Path) -> Iterator[RawRow]:
    """Yield the rows of all files, in order; blank lines are none.

    Raises
    ------
    SourceError
        If a file is missing, truncated, or does not have the configured SHA-256.
    """
    for file in config.files:
        lines = _verified(file, root).decode().splitlines()[file.skip_lines :]
        for number, texts in enumerate(csv.reader(lines, skipinitialspace=True), file.skip_lines):
            if texts:
                yield RawRow(file.path.name, number + 1, [text.strip() for text in texts])


def _verified(file: SourceFile, root: Path) -> bytes:
    path = root / file.path
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except FileNotFoundError as error:
        raise SourceError(
            f"The raw file {path} is missing. Restore it with `git checkout -- {file.path}`, or "
            "name yours under 'source.files' in the feature settings."
        ) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(
            f"The raw file {path} is truncated or damaged ({error}). Restore the original."
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise SourceError(
            f"The raw file {path} has SHA-256 {found}, expected {file.sha256}. Restore the "
            "original, or set 'source.files' to the new hash if the change is meant."
        )
    return content
