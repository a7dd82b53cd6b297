"""A registry in memory, and an admission without gates."""

from __future__ import annotations

from models.errors import RegistryUnavailable
from models.registry.versions import ModelVersion


class Registry:
    """A registry in memory that can go away after some more changes."""

    def __init__(self, n: int) -> None:
        self.stages = {f"income-xgb-v{v}": "None" for v in range(1, n + 1)}
        self.aliases: dict[str, str] = {}
        self.changes_left = 1_000

    def versions(self) -> list[ModelVersion]:
        return [
            ModelVersion(number, label, stage, f"mlflow-artifacts:/{label}", "d" * 64, "f", "run")
            for number, (label, stage) in enumerate(self.stages.items(), start=1)
        ]

    def version(self, number: int) -> ModelVersion:
        return self.versions()[number - 1]

    def set_stage(self, version: ModelVersion, stage: str) -> None:
        self._change()
        self.stages[version.label] = stage

    def set_alias(self, alias: str, version: ModelVersion) -> None:
        self._change()
        self.aliases[alias] = version.label

    def remove_alias(self, alias: str) -> None:
        self._change()
        self.aliases.pop(alias, None)

    def _change(self) -> None:
        self.changes_left -= 1
        if self.changes_left == 0:
            raise RegistryUnavailable("MLflow is gone.")


class EverybodyPasses:
    """An admission without gates."""

    def admit(self, version, champion, force=None):
        return None
