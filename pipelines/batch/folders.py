"""Folders on this machine or in S3: whole files in and out, errors in one line."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.files import sync, write_whole
from feature_store.sources.filesystems import S3, local_filesystem, s3_filesystem
from pipelines.batch.errors import BatchError, InputUnusable, OutputUnusable

KNOWN_CAUSES = {
    "NO_SUCH_BUCKET": "there is no such bucket",
    "BucketNotFound": "there is no such bucket",
    "NoSuchBucket": "there is no such bucket",
    "ACCESS_DENIED": "access is denied: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "INVALID_ACCESS_KEY_ID": "access is denied: check AWS_ACCESS_KEY_ID",
    "SIGNATURE_DOES_NOT_MATCH": "access is denied: check AWS_SECRET_ACCESS_KEY",
    "NETWORK_CONNECTION": "nobody answers: check AWS_ENDPOINT_URL",
}
"""Signs in errors of S3, and what they mean in plain words."""


@dataclass(frozen=True)
class Folder:
    """A folder, or a prefix of a bucket.

    Parameters
    ----------
    filesystem
        Arrow's.
    path
        Without ``s3://``.
    is_local
        Whether it lies on this machine.
    """

    filesystem: Any
    path: str
    is_local: bool

    @classmethod
    def of(cls, place: str, environment: Mapping[str, str]) -> Folder:
        """The folder of a path or an ``s3://`` address."""
        if place.startswith(S3):
            with translate_errors(place):
                files = s3_filesystem(environment)
            return cls(files, place.removeprefix(S3).rstrip("/"), is_local=False)
        return cls(local_filesystem(), str(Path(place).absolute()), is_local=True)

    @property
    def shown(self) -> str:
        """The address as people write it."""
        return self.path if self.is_local else f"{S3}{self.path}"

    def child(self, name: str) -> Folder:
        """A folder in this one."""
        return Folder(self.filesystem, f"{self.path}/{name}", self.is_local)

    def write(self, name: str, content: Any) -> None:
        """Write a file of bytes: it appears whole or not at all.

        It survives this process; a power failure once `replace_folder` has run.

        Raises
        ------
        OutputUnusable
            If it cannot be written.
        """
        with translate_errors(self.shown):
            if not self.is_local:
                with self.filesystem.open_output_stream(f"{self.path}/{name}") as stream:
                    stream.write(content)
                return
            write_whole(Path(self.path) / name, content)

    def read(self, name: str) -> bytes:
        """Read a file.

        Raises
        ------
        OutputUnusable
            If it is not there or cannot be read.
        """
        with (
            translate_errors(self.shown),
            self.filesystem.open_input_stream(f"{self.path}/{name}") as file,
        ):
            content: bytes = file.read()
            return content

    def names(self) -> list[str]:
        """Names of the files and folders in it; none when it is not there."""
        from pyarrow.fs import FileSelector

        with translate_errors(self.shown):
            found = self.filesystem.get_file_info(FileSelector(self.path, allow_not_found=True))
        return sorted(info.base_name for info in found)

    def delete(self, name: str) -> None:
        """Delete a file, if it is there."""
        with translate_errors(self.shown), suppress(FileNotFoundError):
            self.filesystem.delete_file(f"{self.path}/{name}")

    def remove(self) -> None:
        """Delete the folder and all that is in it, if it is there."""
        if self.is_local:
            shutil.rmtree(self.path, ignore_errors=True)
            return
        with translate_errors(self.shown), suppress(FileNotFoundError):
            self.filesystem.delete_dir(self.path)


@contextmanager
def translate_errors(place: str, kind: type[BatchError] = OutputUnusable) -> Iterator[None]:
    """Turn an error of a file system or of Arrow into one line."""
    from pyarrow import ArrowException

    try:
        yield
    except (OSError, EOFError, ArrowException) as error:
        done = "read" if kind is InputUnusable else "written"
        raise kind(f"{place} cannot be {done}: {_cause(error)}.") from error


def _cause(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    if isinstance(error, OSError) and error.strerror:
        text = " ".join(error.strerror.split()).rstrip(".")
    for sign, meaning in KNOWN_CAUSES.items():
        if sign in text:
            return meaning
    return text or type(error).__name__


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
            sync(path)
        if not final.exists():
            new.rename(final)
        elif _exchange(new, final):
            shutil.rmtree(new)
        else:
            old = final.with_name(f".{final.name}.{secrets.token_hex(4)}.old")
            final.rename(old)
            new.rename(final)
            shutil.rmtree(old)
        sync(final.parent)
    except OSError as error:
        raise OutputUnusable(f"{final} cannot be written: {error.strerror}.") from error


def _exchange(one: Path, other: Path) -> bool:
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    return bool(rename(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0)
