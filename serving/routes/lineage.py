"""Where the models that serve come from: what their artifacts say, and what the registry adds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from configs.errors import FTIError
from models.deployment.record import Arm
from models.errors import RegistryUnavailable
from models.registry.mlflow_api import MlflowApi
from serving.model_loader import ModelLoader

FACTS = (
    *("family", "dataset_digest", "training_key", "start", "end", "seed", "calibration"),
    *("threshold_objective", "exclude_protected", "packages"),
)
"""What an artifact's ``config.json`` says of its training."""
TAGS = ("git_commit", "code_version", "trained_at", "parent", "stage")
REGISTRY_LIMIT_S = 2.0


@dataclass(frozen=True)
class Lineage:
    """How a version came about.

    Parameters
    ----------
    training
        What its artifact says.
    registry
        What the registry adds: the commit, times, parent and stage.
    metrics
        Of the test part, from the registry.
    problem
        Why the registry said nothing, if it did not.
    """

    training: Mapping[str, Any]
    registry: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return asdict(self)


class Lineages:
    """Finds lineages; what has been found completely is kept.

    Parameters
    ----------
    loader
        Gives artifacts.
    registry_url
        Gives where MLflow runs; None when it does not.
    model_name
        The registered model.
    """

    def __init__(
        self, loader: ModelLoader, registry_url: Callable[[], str | None], model_name: str
    ) -> None:
        self.loader = loader
        self.registry_url = registry_url
        self.model_name = model_name
        self._known: dict[str, Lineage] = {}

    async def of(self, arm: Arm) -> Lineage:
        """Find the lineage of an arm's version; waits a little for the registry.

        Raises
        ------
        ModelUnusable
            If its artifact cannot be had.
        """
        known = self._known.get(arm.digest)
        if known is not None:
            return known
        training = await asyncio.to_thread(self._training, arm)
        try:
            async with asyncio.timeout(REGISTRY_LIMIT_S):
                registry, metrics = await asyncio.to_thread(self._registered, arm)
        except TimeoutError:
            return Lineage(training, problem=f"MLflow did not answer in {REGISTRY_LIMIT_S:g} s.")
        except FTIError as error:
            return Lineage(training, problem=str(error))
        found = self._known[arm.digest] = Lineage(training, registry, metrics)
        return found

    def _training(self, arm: Arm) -> dict[str, Any]:
        config = self.loader.artifact(arm).config
        return {name: config[name] for name in FACTS if name in config}

    def _registered(self, arm: Arm) -> tuple[dict[str, str], dict[str, float]]:
        url = self.registry_url()
        if url is None:
            raise RegistryUnavailable("MLflow does not run here; start it: make up.")
        api = MlflowApi(url)
        try:
            which = {"name": self.model_name, "version": str(arm.version)}
            version = api.get("model-versions/get", **which)["model_version"]
            run = api.get("runs/get", run_id=version["run_id"])["run"]
        finally:
            api.close()
        tags = {tag["key"]: tag["value"] for tag in version.get("tags", [])}
        metrics = run.get("data", {}).get("metrics", [])
        return (
            {name: tags[name] for name in TAGS if name in tags} | {"run_id": version["run_id"]},
            {metric["key"]: metric["value"] for metric in metrics},
        )
