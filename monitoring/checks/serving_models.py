"""The versions that serve, and what their artifacts say of their training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from feature_store.definitions.schema import FeatureSchema
from models.artifact.artifact import ModelArtifact
from models.artifact.cache import ArtifactCache
from models.artifact.profile import ReferenceProfile
from models.deployment.record import Deployment


@dataclass(frozen=True)
class ServingModels:
    """The versions that serve.

    Parameters
    ----------
    model_name
        The registered model.
    champion
        Label of the version that answers outside of a test.
    artifact
        The champion's.
    roles
        Label of each serving version to its arm.
    schemas
        Fingerprint to schema, of all serving versions.
    """

    model_name: str
    champion: str
    artifact: ModelArtifact
    roles: Mapping[str, str]
    schemas: Mapping[str, FeatureSchema]

    @property
    def schema(self) -> FeatureSchema:
        """The features that the champion takes."""
        return self.artifact.feature_schema

    @property
    def reference(self) -> ReferenceProfile | None:
        """What the champion was trained on; None where its artifact does not say."""
        return self.artifact.profile()


def read_serving_models(
    model_name: str, deployment: Deployment, artifacts: ArtifactCache
) -> ServingModels:
    """Read what serves; artifacts that are not here yet are fetched.

    Raises
    ------
    ArtifactError
        If one cannot be had, or was altered.
    """
    found = [artifacts.get(arm.artifact_uri, arm.digest) for arm in deployment.arms]
    schemas = [artifact.feature_schema for artifact in found]
    return ServingModels(
        model_name=model_name,
        champion=deployment.champion.label,
        artifact=found[0],
        roles={arm.label: arm.name for arm in deployment.arms},
        schemas={schema.fingerprint: schema for schema in schemas},
    )
