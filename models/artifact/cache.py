"""Artifacts on the local disk, by digest: fetched once, verified each time.

They come from the mirror where there is one, else from the registry.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import os
import secrets
import shutil
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlsplit

from configs.errors import FTIError
from models.artifact.artifact import MANIFEST, ModelArtifact, open_artifact
from models.artifact.mirror import ArtifactMirror
from models.errors import ArtifactError

logger = logging.getLogger(__name__)

FETCH_LIMIT_S = 10.0

FetchFile = Callable[[str, str], bytes]
"""Takes an artifact's URI and a file's name, gives its bytes or raises `ArtifactError`."""


class ArtifactCache:
    """One folder an artifact, named by its digest.

    Parameters
    ----------
    folder
        Holds the artifacts.
    fetch
        Gets a file of an artifact from where it was registered.
    mirror
        Asked first; what it lacks, or has otherwise than it was registered, is fetched as well.
    """

    def __init__(
        self, folder: Path, fetch: FetchFile, mirror: ArtifactMirror | None = None
    ) -> None:
        self.folder = folder
        self.fetch = fetch
        self.mirror = mirror

    def get(self, uri: str, digest: str) -> ModelArtifact:
        """Give an artifact whose files have all been checked; fetch it if need be.

        Raises
        ------
        ArtifactError
            If it cannot be fetched, or a byte differs from what was registered.
        """
        folder = self.folder / digest
        if folder.exists():
            try:
                return open_artifact(folder, digest)
            except ArtifactError:
                shutil.rmtree(folder)  # damaged on this disk: fetch it again
        if self.mirror is None:
            return self._fetch(folder, uri, digest, partial(self.fetch, uri))
        try:
            where = f"{self.mirror.address}/{digest}"
            return self._fetch(folder, where, digest, partial(self.mirror.read, digest))
        except ArtifactError as error:
            logger.warning("asking MLflow instead: %s", error)
            try:
                return self._fetch(folder, uri, digest, partial(self.fetch, uri))
            except ArtifactError as second:
                raise ArtifactError(f"{second} Nor is it in the mirror: {error}") from second

    def _fetch(
        self, folder: Path, where: str, digest: str, read: Callable[[str], bytes]
    ) -> ModelArtifact:
        self._fetch_into(folder, where, digest, read)
        try:
            return open_artifact(folder, digest)
        except ArtifactError:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _fetch_into(
        self, folder: Path, where: str, digest: str, read: Callable[[str], bytes]
    ) -> None:
        """Fetch all files beside the folder, then give them its name at once."""
        manifest = read(MANIFEST)
        if hashlib.sha256(manifest).hexdigest() != digest:
            raise ArtifactError(
                f"the manifest at {where} is not the registered one ({digest[:12]}…). Register "
                "the model again."
            )
        fetched = folder.with_name(f".{folder.name}.{os.getpid()}.{secrets.token_hex(4)}")
        fetched.mkdir(parents=True)
        try:
            (fetched / MANIFEST).write_bytes(manifest)
            for name in json.loads(manifest)["files"]:
                (fetched / Path(name).name).write_bytes(read(name))
            try:
                fetched.rename(folder)
            except OSError:  # another process was quicker: its copy is verified like ours
                if not folder.exists():
                    raise
        finally:
            shutil.rmtree(fetched, ignore_errors=True)


class MlflowFiles:
    """Fetches files of artifacts that an MLflow server keeps, over its REST API.

    Parameters
    ----------
    tracking_url
        Gives the server's URL; asked only when something must be fetched.
    """

    def __init__(self, tracking_url: Callable[[], str]) -> None:
        self.tracking_url = tracking_url

    def __call__(self, uri: str, name: str) -> bytes:
        """Fetch one file.

        Raises
        ------
        ArtifactError
            If it lies elsewhere, is not there, or MLflow does not answer in time.
        """
        parts = urlsplit(uri)
        if parts.scheme != "mlflow-artifacts":
            raise ArtifactError(
                f"the artifact lies at {uri}; expected mlflow-artifacts:/…, which the tracking "
                "server hands out. Start it with --serve-artifacts."
            )
        path = quote(f"{parts.path.strip('/')}/{name}")
        try:
            url = f"{self.tracking_url()}/api/2.0/mlflow-artifacts/artifacts/{path}"
            with urllib.request.urlopen(url, timeout=FETCH_LIMIT_S) as response:
                content: bytes = response.read()
                return content
        except (OSError, http.client.HTTPException, FTIError) as error:
            raise ArtifactError(
                f"{name} of the artifact at {uri} cannot be fetched from MLflow: {error}. "
                "Check that it runs (`make status`)."
            ) from error
