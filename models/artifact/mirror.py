"""Copies of artifacts in a folder or an object store, so that a new host needs no MLflow.

A deployment fills the mirror before it is recorded. An artifact lies under its digest, its files
first and its manifest last: it is there when its manifest is. Whoever reads checks every byte.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from configs.errors import reason_of
from models.artifact.artifact import MANIFEST, ModelArtifact
from models.errors import ArtifactError

CONNECT_LIMIT, REQUEST_LIMIT = "3s", "10s"
MOST_RETRIES = 2
RETRY_LIMIT = timedelta(seconds=10)
DIGEST_LENGTH = 64


@dataclass(frozen=True)
class MirroredArtifact:
    """An artifact in the mirror, whole or not; ``changed_at`` is when its newest file came."""

    digest: str
    changed_at: datetime
    size: int
    is_whole: bool


@dataclass(frozen=True)
class ArtifactMirror:
    """The mirror at an address.

    Parameters
    ----------
    address
        A folder, or ``s3://bucket/prefix``, ``gs://…``, ``az://…``.
    environment
        Has the credentials of an object store, in its usual variables (``AWS_…``).
    """

    address: str
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    def read(self, digest: str, name: str) -> bytes:
        """Read a file of an artifact, as it is kept.

        Raises
        ------
        ArtifactError
            If it is not there, or the mirror cannot be reached.
        """
        import obstore

        with self._translated(f"{digest}/{name}"):
            return bytes(obstore.get(self._store, f"{digest}/{name}").bytes())

    def fill(self, artifact: ModelArtifact) -> bool:
        """Keep a copy of a checked artifact, whole or not at all; False if it was there.

        What is there is read and checked, and written again where it was altered.

        Raises
        ------
        ArtifactError
            If a file cannot be written, or reads back otherwise.
        """
        hashes = {**artifact.files, MANIFEST: artifact.digest}
        damaged = [name for name in hashes if self._hash(artifact.digest, name) != hashes[name]]
        for name in damaged:  # the manifest is the last of them
            self._write(artifact, name, hashes[name])
        return bool(damaged)

    def list(self) -> list[MirroredArtifact]:
        """List what lies here, by digest.

        Raises
        ------
        ArtifactError
            If the mirror cannot be read.
        """
        found: dict[str, list[Mapping[str, Any]]] = {}
        for each in self._files():
            digest, _, name = str(each["path"]).partition("/")
            if name and len(digest) == DIGEST_LENGTH:
                found.setdefault(digest, []).append(each)
        return [
            MirroredArtifact(
                digest,
                max(each["last_modified"] for each in files),
                sum(each["size"] for each in files),
                any(each["path"] == f"{digest}/{MANIFEST}" for each in files),
            )
            for digest, files in sorted(found.items())
        ]

    def remove(self, digest: str) -> None:
        """Remove an artifact, its manifest first, so that no half of it is taken for a whole.

        Raises
        ------
        ArtifactError
            If the mirror refuses.
        """
        import obstore

        paths = [each["path"] for each in self._files() if each["path"].startswith(f"{digest}/")]
        with self._translated(digest):
            for path in sorted(paths, key=lambda path: not path.endswith(f"/{MANIFEST}")):
                obstore.delete(self._store, path)

    def _write(self, artifact: ModelArtifact, name: str, expected: str) -> None:
        import obstore

        path = f"{artifact.digest}/{name}"
        content = (artifact.path / name).read_bytes() if name == MANIFEST else artifact.read(name)
        with self._translated(path):
            obstore.put(self._store, path, content)
        if self._hash(artifact.digest, name) != expected:
            raise ArtifactError(
                f"{self.address}/{path} reads back otherwise than written. Look at the store."
            )

    def _hash(self, digest: str, name: str) -> str | None:
        """SHA-256 of a file as it lies here; None when it is not there."""
        import obstore

        try:
            with self._translated(f"{digest}/{name}"):
                content = obstore.get(self._store, f"{digest}/{name}").bytes()
        except ArtifactError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise
        return hashlib.sha256(content).hexdigest()

    def _files(self) -> Iterator[Mapping[str, Any]]:
        import obstore

        with self._translated(""):
            for chunk in obstore.list(self._store):
                yield from chunk

    @cached_property
    def _store(self) -> Any:
        """The store; the library is loaded when something is read or written for the first time."""
        from obstore.store import LocalStore, from_url

        if "://" not in self.address:
            return LocalStore(Path(self.address).absolute(), mkdir=True)
        options: dict[str, Any] = {
            "client_options": {
                "connect_timeout": CONNECT_LIMIT,
                "timeout": REQUEST_LIMIT,
                "allow_http": True,  # of a store in the same network; its address says so
            },
            "retry_config": {"max_retries": MOST_RETRIES, "retry_timeout": RETRY_LIMIT},
        }
        endpoint = self.environment.get("AWS_ENDPOINT_URL_S3")
        if endpoint and self.address.startswith("s3://"):
            options["endpoint"] = endpoint
        return from_url(self.address, **options)

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        try:
            yield
        except ArtifactError:
            raise
        # The library's errors have no common root but this.
        except Exception as error:
            reason = reason_of(error).partition(" Debug source")[0]
            raise ArtifactError(
                f"{self.address}/{path} in the mirror of artifacts cannot be used: {reason}. Check "
                "deployment.artifact_mirror, and the credentials of the store."
            ) from error
