"""Artifacts on the local disk, by digest: fetched from the registry once, verified each time."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import secrets
import shutil
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

from configs.errors import FTIError
from models.artifact.artifact import MANIFEST, ModelArtifact, open_artifact
from models.errors import ArtifactError

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
        Gets a file of an artifact from where it is kept.
    """

    def __init__(self, folder: Path, fetch: FetchFile) -> None:
        self.folder = folder
        self.fetch = fetch

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
        self._fetch_into(folder, uri, digest)
        try:
            return open_artifact(folder, digest)
        except ArtifactError:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _fetch_into(self, folder: Path, uri: str, digest: str) -> None:
        """Fetch all files beside the folder, then give them its name at once."""
        manifest = self.fetch(uri, MANIFEST)
        if hashlib.sha256(manifest).hexdigest() != digest:
            raise ArtifactError(
                f"the manifest at {uri} is not the registered one ({digest[:12]}…). Register the "
                "model again."
            )
        fetched = folder.with_name(f".{folder.name}.{os.getpid()}.{secrets.token_hex(4)}")
        fetched.mkdir(parents=True)
        try:
            (fetched / MANIFEST).write_bytes(manifest)
            for name in json.loads(manifest)["files"]:
                (fetched / Path(name).name).write_bytes(self.fetch(uri, name))
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
