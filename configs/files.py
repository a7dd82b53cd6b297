"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_whole(
    path: Path,
    content: bytes | str,
    *,
    is_lasting: bool = False,
    rights: int = 0o666,
    owner: int | None = None,
) -> None:
    """Write a file in one step: whoever reads finds what was there before, or all of the new.

    It survives the death of this process at any moment. Folders are made where they lack.

    Parameters
    ----------
    is_lasting
        Whether it survives a power failure too: then it is on the disk when this returns.
    rights
        Of the file, less those that the umask takes.
    owner
        User to whom it belongs from the beginning; None for ours.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, rights)
    try:
        with open(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if owner is not None:
                os.fchown(descriptor, owner, -1)
            if is_lasting:
                file.flush()
                os.fsync(descriptor)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    if is_lasting:
        sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
