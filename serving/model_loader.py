"""From a deployment's arm to a model that can answer: fetched, verified, tried, or refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.schema import FeatureSchema
from models.artifact.artifact import ModelArtifact, open_artifact
from models.artifact.cache import ArtifactCache, FetchFile
from models.artifact.mirror import ArtifactMirror
from models.deployment.record import Arm
from models.errors import ArtifactError
from models.onnx.scorer import OnnxScorer
from serving.errors import ModelUnusable

SCORER_FILE = "model.onnx"
EXAMPLE_TOLERANCE = 1e-5
"""The same model answers its example within this on any processor."""


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
        Gets a file of an artifact from where it was registered.
    mirror
        Copies of artifacts, asked first; None where there are none.
    """

    def __init__(self, cache: Path, fetch: FetchFile, mirror: ArtifactMirror | None = None) -> None:
        self.cache = cache
        self.fetch = fetch
        self.mirror = mirror

    def load(self, arm: Arm) -> LoadedModel:
        """Load the model of an arm.

        Raises
        ------
        ModelUnusable
            If its `artifact` cannot be had, or it answers its example otherwise.
        """
        return _model(arm, self.artifact(arm))

    def load_staged(self, arm: Arm) -> LoadedModel:
        """Load the model of an arm whose artifact lies on the local disk; nothing is fetched.

        Raises
        ------
        ModelUnusable
            If it is not there, a byte differs, or it answers its example otherwise.
        """
        try:
            artifact = open_artifact(self.cache / arm.digest, arm.digest, check_files=False)
        except ArtifactError as error:
            raise ModelUnusable(f"{arm.label} cannot be used: {error}") from error
        return _model(arm, artifact)

    def artifact(self, arm: Arm) -> ModelArtifact:
        """Give the verified artifact of an arm on the local disk, fetched if need be.

        Raises
        ------
        ModelUnusable
            If it cannot be fetched, or a byte differs from what was registered.
        """
        try:
            artifacts = ArtifactCache(self.cache, self.fetch, self.mirror)
            return artifacts.get(arm.artifact_uri, arm.digest)
        except (ArtifactError, OSError) as error:
            raise ModelUnusable(f"{arm.label} cannot be used: {error}") from error


def _model(arm: Arm, artifact: ModelArtifact) -> LoadedModel:
    try:
        # The bytes that are checked are the bytes that are used: a file may change between.
        scorer = OnnxScorer(artifact.read(SCORER_FILE), len(artifact.features))
        _try_example(scorer, artifact)
        return LoadedModel(arm.digest, _threshold(artifact), scorer, artifact.feature_schema)
    except (ArtifactError, ValueError, KeyError, TypeError) as error:
        raise ModelUnusable(
            f"{arm.label} cannot be used: {error}. Register the model again."
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
