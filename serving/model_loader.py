"""From a deployment's arm to a model that can answer: fetched, verified, tried, or refused."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import secrets
import shutil
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import numpy as np
from numpy.typing import NDArray

from configs.errors import FTIError
from feature_store.registry import FeatureSchema
from models.artifact import MANIFEST, ModelArtifact, open_artifact
from models.deployment import Arm
from models.errors import ArtifactError
from models.scorer import OnnxScorer
from serving.errors import ModelUnusable

SCORER_FILE = "model.onnx"
EXAMPLE_TOLERANCE = 1e-5
"""The same model answers its example within this on any processor."""
FETCH_LIMIT_S = 10.0

FetchFile = Callable[[str, str], bytes]
"""Takes an artifact's URI and a file's name, gives its bytes or raises `ModelUnusable`."""


@dataclass(frozen=True)
class LoadedModel:
    """A verified model in memory; ``schema`` is the version of the features that it takes."""

    digest: str
    threshold: float
    scorer: OnnxScorer
    schema: FeatureSchema

    def probability(self, vector: NDArray[np.float32]) -> float:
        """Score one vector ``(p,)``."""
        return float(self.scorer.predict(vector[np.newaxis, :])[0])


class ModelLoader:
    """Loads models by digest: from the local cache, or fetched into it.

    Parameters
    ----------
    cache
        Holds one folder an artifact, named by its digest.
    fetch
        Gets a file of an artifact from where it is kept.
    """

    def __init__(self, cache: Path, fetch: FetchFile) -> None:
        self.cache = cache
        self.fetch = fetch

    def load(self, arm: Arm) -> LoadedModel:
        """Load the model of an arm.

        Raises
        ------
        ModelUnusable
            If its `artifact` cannot be had, or it answers its example otherwise.
        """
        artifact = self.artifact(arm)
        try:
            # The bytes that are checked are the bytes that are used: a file may change between.
            scorer = OnnxScorer(artifact.read(SCORER_FILE), len(artifact.features))
            _try_example(scorer, artifact)
            return LoadedModel(arm.digest, _threshold(artifact), scorer, artifact.feature_schema)
        except (ArtifactError, ValueError, KeyError, TypeError) as error:
            raise ModelUnusable(
                f"{arm.label} cannot be used: {error}. Register the model again."
            ) from error

    def artifact(self, arm: Arm) -> ModelArtifact:
        """Give the verified artifact of an arm on the local disk, fetched if need be.

        Raises
        ------
        ModelUnusable
            If it cannot be fetched, or a byte differs from what was registered.
        """
        try:
            return self._open(arm)
        except (ArtifactError, OSError) as error:
            raise ModelUnusable(f"{arm.label} cannot be used: {error}") from error

    def _open(self, arm: Arm) -> ModelArtifact:
        folder = self.cache / arm.digest
        if folder.exists():
            try:
                return open_artifact(folder, arm.digest)
            except ArtifactError:
                shutil.rmtree(folder)  # damaged on this disk: fetch it again
        self._fetch_into(folder, arm)
        try:
            return open_artifact(folder, arm.digest)
        except ArtifactError:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _fetch_into(self, folder: Path, arm: Arm) -> None:
        """Fetch all files beside the folder, then give them its name at once."""
        manifest = self.fetch(arm.artifact_uri, MANIFEST)
        if hashlib.sha256(manifest).hexdigest() != arm.digest:
            raise ModelUnusable(
                f"The manifest of {arm.label} at {arm.artifact_uri} is not the registered one "
                f"({arm.digest[:12]}…). Register the model again."
            )
        fetched = folder.with_name(f".{folder.name}.{os.getpid()}.{secrets.token_hex(4)}")
        fetched.mkdir(parents=True)
        try:
            (fetched / MANIFEST).write_bytes(manifest)
            for name in json.loads(manifest)["files"]:
                (fetched / Path(name).name).write_bytes(self.fetch(arm.artifact_uri, name))
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
        """Fetch one file."""
        parts = urlsplit(uri)
        if parts.scheme != "mlflow-artifacts":
            raise ModelUnusable(
                f"The artifact lies at {uri}; expected mlflow-artifacts:/…, which the tracking "
                "server hands out. Start it with --serve-artifacts."
            )
        path = quote(f"{parts.path.strip('/')}/{name}")
        try:
            url = f"{self.tracking_url()}/api/2.0/mlflow-artifacts/artifacts/{path}"
            with urllib.request.urlopen(url, timeout=FETCH_LIMIT_S) as response:
                content: bytes = response.read()
                return content
        except (OSError, http.client.HTTPException, FTIError) as error:
            raise ModelUnusable(
                f"{name} of the artifact at {uri} cannot be fetched from MLflow: {error}. "
                "Check that it runs (`make status`)."
            ) from error


def _try_example(scorer: OnnxScorer, artifact: ModelArtifact) -> None:
    """Raise unless the model answers its example as it did when it was trained."""
    vectors, expected = artifact.example()
    shape = vectors.shape
    if shape != (len(expected), len(artifact.features)) or len(expected) == 0:
        raise ArtifactError(f"its example has vectors {shape} and {len(expected)} answers")
    difference = float(np.max(np.abs(scorer.predict(vectors) - expected)))
    if not difference <= EXAMPLE_TOLERANCE:
        raise ArtifactError(
            f"it answers its example with a difference of {difference:.2g}; allowed is "
            f"{EXAMPLE_TOLERANCE:g}"
        )


def _threshold(artifact: ModelArtifact) -> float:
    threshold = artifact.threshold
    if not 0 <= threshold <= 1:
        raise ArtifactError(f"its threshold is {threshold}; expected a probability")
    return threshold
