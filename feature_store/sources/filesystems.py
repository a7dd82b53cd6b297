"""Files where they are: on this machine or in S3; listed, globbed, opened as streams."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from configs.sources import SourceFile
from feature_store.errors import SourceError

S3 = "s3://"
WILD = r"[*?]"
CONNECT_TIMEOUT_S, REQUEST_TIMEOUT_S, TRIES = 5, 30, 3


@dataclass(frozen=True)
class FoundFile:
    """A file that a path or a glob of the settings stands for.

    Parameters
    ----------
    settings
        The entry of the settings that it is from.
    path
        Where it is, as a person would write it.
    name
        What rows of it are said to be from.
    size, modified_ns
        Bytes as stored, and when they were last changed.
    changed_ns
        When the file was last touched in any way, which no program can set: `cp -p` and `touch -r`
        keep the other time. 0 in S3, where nobody can set that one either.
    """

    settings: SourceFile
    filesystem: Any
    path: str
    name: str
    size: int
    modified_ns: int
    changed_ns: int

    @contextmanager
    def open(self) -> Iterator[Any]:
        """A stream of the bytes, decompressed where the name ends in ``.gz``.

        Raises
        ------
        SourceError
            If the bytes end early or cannot be read; also while they are.
        """
        kind = "gzip" if self.path.endswith(".gz") else None
        with (
            _translated(self.path),
            self.filesystem.open_input_stream(self._inner, compression=kind) as stream,
        ):
            yield stream

    @contextmanager
    def open_anywhere(self) -> Iterator[Any]:
        """A file that can be read from any place in it."""
        with _translated(self.path), self.filesystem.open_input_file(self._inner) as file:
            yield file

    @property
    def _inner(self) -> str:
        return self.path.removeprefix(S3)


def find_files(file: SourceFile, root: Path, environment: Mapping[str, str]) -> list[FoundFile]:
    """The file of a path, or all files of a glob in order of their paths.

    Parameters
    ----------
    root
        Where paths that are not absolute begin.
    environment
        Has the ``AWS_…`` variables when the path is in S3.

    Raises
    ------
    SourceError
        If there is none, or S3 cannot be reached.
    """
    in_s3 = file.path.startswith(S3)
    path = file.path if in_s3 else str(root / file.path)
    with _translated(path):
        filesystem = s3_filesystem(environment) if in_s3 else local_filesystem()
        inner = path.removeprefix(S3)
        prefix = S3 if in_s3 else ""
        found = []
        for info, name in matches(filesystem, inner):
            times = info.mtime_ns, 0 if in_s3 else os.stat(info.path).st_ctime_ns
            found.append(FoundFile(file, filesystem, prefix + info.path, name, info.size, *times))
    if not found:
        raise SourceError(_missing(file, path))
    return found


def _missing(file: SourceFile, path: str) -> str:
    """What is missing, and what to do about it."""
    yours = "yours under 'source.files' in the feature settings."
    if re.search(WILD, path):
        return (
            f"No file matches {path}. Put files there, or name {yours} In a pattern * and ? stand "
            "for what is no slash, ** for any folders."
        )
    if file.sha256 and not path.startswith(S3) and not Path(file.path).is_absolute():
        return (
            f"The raw file {path} is missing. Restore it with `git checkout -- {file.path}`, or "
            f"name {yours}"
        )
    return f"The raw file {path} is missing. Put it there, or name {yours}"


def matches(filesystem: Any, path: str) -> list[tuple[Any, str]]:
    """What a path or glob stands for, in order of the paths: (file information, name).

    The name is the path below the folders that have no wildcard in them.
    """
    from pyarrow.fs import FileSelector, FileType

    if not re.search(WILD, path):
        info = filesystem.get_file_info(path)
        return [(info, PurePosixPath(path).name)] if info.type == FileType.File else []
    parts = path.split("/")
    fixed = next(place for place, part in enumerate(parts) if re.search(WILD, part))
    base = "/".join(parts[:fixed])
    recursive = len(parts) - fixed > 1
    selector = FileSelector(base or "/", recursive=recursive, allow_not_found=True)
    pattern = _pattern(path)
    return [
        (info, info.path.removeprefix(base).lstrip("/"))
        for info in sorted(filesystem.get_file_info(selector), key=lambda info: info.path)
        if info.type == FileType.File and pattern.fullmatch(info.path)
    ]


def _pattern(glob: str) -> re.Pattern[str]:
    """``**`` stands for any folders, ``*`` and ``?`` for what is not a slash."""
    special = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", glob)
    return re.compile("".join(special.get(part, re.escape(part)) for part in parts))


def local_filesystem() -> Any:
    """The files of this machine."""
    from pyarrow.fs import LocalFileSystem

    return LocalFileSystem()


def s3_filesystem(environment: Mapping[str, str]) -> Any:
    """S3 as the standard variables describe it."""
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    options: dict[str, Any] = {}
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    if endpoint:
        scheme, _, host = endpoint.rpartition("://")
        options |= {"endpoint_override": host.rstrip("/"), "scheme": scheme or "https"}
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    if region:
        options["region"] = region
    if environment.get("AWS_ACCESS_KEY_ID"):
        options |= {
            "access_key": environment["AWS_ACCESS_KEY_ID"],
            "secret_key": environment.get("AWS_SECRET_ACCESS_KEY", ""),
            "session_token": environment.get("AWS_SESSION_TOKEN"),
        }
    return S3FileSystem(
        connect_timeout=CONNECT_TIMEOUT_S,
        request_timeout=REQUEST_TIMEOUT_S,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=TRIES),
        **options,
    )


@contextmanager
def _translated(path: str) -> Iterator[None]:
    """Turn an error of a file system into a `SourceError` of one line."""
    from pyarrow import ArrowException

    try:
        yield
    except (OSError, EOFError, ArrowException) as error:
        reason = " ".join(str(error).split())
        if isinstance(error, FileNotFoundError):
            raise SourceError(f"The raw file {path} is missing. {reason}") from error
        if path.startswith(S3):
            raise SourceError(
                f"{path} cannot be read: {reason}. Check the address, AWS_ENDPOINT_URL and the "
                "AWS_… credentials."
            ) from error
        raise SourceError(
            f"The raw file {path} is truncated or damaged ({reason}). Restore the original."
        ) from error
