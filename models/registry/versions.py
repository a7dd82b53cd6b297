"""The registered versions of a model, kept by MLflow: their stages, aliases and artifacts.

The tag ``stage`` of a version is the truth about it (None, Staging, Production, Archived); the
aliases ``production`` and ``challenger`` point to the versions that serve.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from configs.errors import did_you_mean
from models.errors import UnknownModel
from models.registry.mlflow_api import ALREADY_EXISTS, NOT_FOUND, MlflowApi, tags_of, unless

Stage = Literal["None", "Staging", "Production", "Archived"]
Alias = Literal["production", "challenger"]
PAGE = 200


@dataclass(frozen=True)
class ModelVersion:
    """One registered version.

    Parameters
    ----------
    version
        MLflow's number.
    label
        What people call it: ``income-xgb-v3``.
    artifact_uri, digest
        Where the artifact lies (``mlflow-artifacts:/…``), and the SHA-256 of its manifest.
    fingerprint
        Of the features that it takes.
    run_id
        The MLflow run that trained it.
    tags
        All tags of the version.
    native_stage
        MLflow's own ``current_stage``, which shows what ``stage`` says.
    """

    version: int
    label: str
    stage: Stage
    artifact_uri: str
    digest: str
    fingerprint: str
    run_id: str
    tags: Mapping[str, str] = field(default_factory=dict, repr=False)
    native_stage: str = "None"

    @property
    def trained_at(self) -> datetime | None:
        """When its training began to read; None where that was not recorded."""
        recorded = self.tags.get("trained_at")
        return datetime.fromisoformat(recorded) if recorded else None


class ModelRegistry:
    """The versions of one registered model.

    Parameters
    ----------
    url
        The MLflow server.
    model_name
        The registered model, such as ``income-predictor``.
    """

    def __init__(self, url: str, model_name: str) -> None:
        self.url = url.rstrip("/")
        self.model_name = model_name
        self.api = MlflowApi(url)

    def refuse_unreachable(self) -> None:
        """Raise `RegistryUnavailable` at once if the server does not answer."""
        self.api.refuse_unreachable()

    def versions(self) -> list[ModelVersion]:
        """All versions that were registered here, oldest first.

        Raises
        ------
        RegistryUnavailable
            If MLflow does not answer in time.
        """
        found = self.api.pages(
            "model-versions/search",
            of="model_versions",
            filter=f"name='{self.model_name}'",
            max_results=PAGE,
        )
        ours = [version for version in map(self._version, found) if version.digest]
        return sorted(ours, key=lambda version: version.version)

    def find(self, label: str) -> ModelVersion:
        """Find a version by its label.

        Raises
        ------
        UnknownModel
            If there is none; the message names the nearest.
        """
        versions = {version.label: version for version in self.versions()}
        if label in versions:
            return versions[label]
        known = ", ".join(versions) or "none; run python pipelines/training_pipeline.py"
        raise UnknownModel(
            f"There is no model version '{label}'. {did_you_mean(label, versions)}Known: {known}."
        )

    def trained_from(self, training_key: str) -> ModelVersion | None:
        """The newest version trained from the very same data, settings and code."""
        same = [v for v in self.versions() if v.tags.get("training_key") == training_key]
        return same[-1] if same else None

    def set_stage(self, version: ModelVersion, stage: Stage) -> None:
        """Record the stage of a version, as the tag and as MLflow's own ``current_stage``."""
        self.set_tags(version, {"stage": stage})
        which = {"name": self.model_name, "version": str(version.version)}
        self.api.post(
            "model-versions/transition-stage",
            **which,
            stage=stage,
            archive_existing_versions=False,
        )

    def set_tags(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        which = {"name": self.model_name, "version": str(version.version)}
        for tag in tags_of(tags):
            self.api.post("model-versions/set-tag", **which, **tag)

    def set_alias(self, alias: Alias, version: ModelVersion) -> None:
        """Point an alias to a version."""
        number = str(version.version)
        self.api.post("registered-models/alias", name=self.model_name, alias=alias, version=number)

    def aliases(self) -> dict[str, int]:
        """Every alias of the model and the version that it points to."""
        found = unless(
            NOT_FOUND, lambda: self.api.get("registered-models/get", name=self.model_name)
        )
        aliases = (found or {}).get("registered_model", {}).get("aliases", [])
        return {each["alias"]: int(each["version"]) for each in aliases}

    def remove_alias(self, alias: Alias) -> None:
        """Remove an alias; one that is not there is no error."""
        which = {"name": self.model_name, "alias": alias}
        unless(NOT_FOUND, lambda: self.api.delete("registered-models/alias", **which))

    def register(
        self, source: str, *, run_id: str, model_id: str, tags: Mapping[str, str]
    ) -> ModelVersion:
        """Register a model that is uploaded completely; the version appears with all its tags.

        Parameters
        ----------
        source
            Where MLflow's files of the model lie.
        tags
            ``label_prefix``, ``artifact_uri``, ``artifact_digest``, ``schema_fingerprint``, and
            more; ``stage`` begins as None.
        """
        name = self.model_name
        unless(ALREADY_EXISTS, lambda: self.api.post("registered-models/create", name=name))
        created = self.api.post(
            "model-versions/create",
            name=name,
            source=source,
            run_id=run_id,
            model_id=model_id,
            tags=tags_of({**tags, "stage": "None"}),
        )
        version = self._version(created["model_version"])
        self.set_tags(version, {"label": version.label})  # for people; it follows from the others
        return version

    def experiment_id(self, name: str) -> str:
        """MLflow's id of an experiment, which is made or restored if need be."""
        found = self._experiment(name)
        if found is None:  # another training may be quicker
            unless(ALREADY_EXISTS, lambda: self.api.post("experiments/create", name=name))
            found = self._experiment(name) or {}
        number = str(found["experiment_id"])
        if found.get("lifecycle_stage") == "deleted":
            self.api.post("experiments/restore", experiment_id=number)
        return number

    def experiment_url(self, name: str) -> str:
        """Where people see the runs of an experiment."""
        return f"{self.url}/#/experiments/{self.experiment_id(name)}"

    def label(self, prefix: str, version: int) -> str:
        """What people call a version.

        Examples
        --------
        >>> ModelRegistry("http://localhost:5000", "income-predictor").label("xgb", 3)
        'income-xgb-v3'
        """
        return f"{self.model_name.removesuffix('-predictor')}-{prefix}-v{version}"

    def _experiment(self, name: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = unless(
            NOT_FOUND, lambda: self.api.get("experiments/get-by-name", experiment_name=name)
        )
        return found and found["experiment"]

    def _version(self, stored: Mapping[str, Any]) -> ModelVersion:
        tags = {tag["key"]: tag["value"] for tag in stored.get("tags", [])}
        number = int(stored["version"])
        return ModelVersion(
            version=number,
            label=self.label(tags.get("label_prefix", "model"), number),
            stage=tags.get("stage", "None"),
            artifact_uri=tags.get("artifact_uri", ""),
            digest=tags.get("artifact_digest", ""),
            fingerprint=tags.get("schema_fingerprint", ""),
            run_id=stored.get("run_id", ""),
            tags=tags,
            native_stage=stored.get("current_stage") or "None",
        )
