"""A folder takes another one's place at once."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
from pathlib import Path

from pipelines.batch.errors import OutputUnusable

AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""Of https://man7.org/linux/man-pages/man2/rename.2.html."""


def replace_folder(new: Path, final: Path) -> None:
    """Give a folder its final name; one that has it already is exchanged with it, and deleted.

    Where the kernel or the file system cannot exchange, there is a moment without either.

    Raises
    ------
    OutputUnusable
        If it cannot be renamed.
    """
    try:
        for path in [*new.iterdir(), new]:
            _sync(path)
        if not final.exists():
            new.rename(final)
        elif _exchanged(new, final):
            shutil.rmtree(new)
        else:
            old = final.with_name(f".{final.name}.{secrets.token_hex(4)}.old")
            final.rename(old)
            new.rename(final)
            shutil.rmtree(old)
        _sync(final.parent)
    except OSError as error:
        raise OutputUnusable(f"{final} cannot be written: {error.strerror}.") from error


def _exchanged(one: Path, other: Path) -> bool:
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    return bool(rename(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0)


def _sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk before what follows."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
