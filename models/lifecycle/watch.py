"""Adopts what stock MLflow clients change in the registry, through the gates; or puts it back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from configs.errors import FTIError
from feature_store.errors import StoreUnavailable
from models.deployment.plan import ExperimentPlan
from models.deployment.promotion import Promoter, Target
from models.deployment.store import StageChange
from models.errors import DeploymentConflict, RegistryUnavailable
from models.lifecycle.requests import Shown, Wish, recorded, shown, wishes
from models.registry.versions import Alias, ModelVersion, Stage

logger = logging.getLogger(__name__)

NOTE = "lifecycle"
"""The tag that tells what became of a wish."""
MOST_AT_ONCE = 50
"""Wishes that one call answers, so that none goes on for ever."""
TO_BE_TRIED_AGAIN = (StoreUnavailable, RegistryUnavailable, DeploymentConflict)


@dataclass(frozen=True)
class RegistryWatch:
    """Holds the registry against the record; `poll` is called again and again from one thread.

    Parameters
    ----------
    promoter
        Adopts wishes.
    verify
        Raises when the artifact of a version is not what was registered.
    share, salt, plan
        Of an A/B test that an alias asks for.
    """

    promoter: Promoter
    verify: Callable[[ModelVersion], object]
    share: float
    salt: str
    plan: ExperimentPlan | None = None

    def poll(self) -> list[Wish]:
        """Look whether somebody changed the registry; adopt it, or put it back with the reason.

        Raises
        ------
        FTIError
            If PostgreSQL or MLflow does not answer, or somebody deploys at the same time; the
            next call tries again.
        """
        answered: list[Wish] = []
        while len(answered) < MOST_AT_ONCE and (asked := self._asked()):
            wish, versions, expected = asked
            self._answer(wish, versions, expected)
            answered.append(wish)  # others may mean something else now: look again
        return answered

    def _asked(self) -> tuple[Wish, dict[int, ModelVersion], Shown] | None:
        """The most far-reaching wish; None while the registry shows what is recorded."""
        versions, expected, seen = self._look()
        if expected == seen:
            return None
        # Perhaps a deployment is half shown: look again when none is under way.
        with self.promoter.store.undisturbed():
            versions, expected, seen = self._look()
        found = wishes(expected, seen)
        return (found[0], versions, expected) if found else None

    def _look(self) -> tuple[dict[int, ModelVersion], Shown, Shown]:
        store, registry = self.promoter.store, self.promoter.registry
        versions = registry.versions()
        expected = recorded(versions, store.current(), store.stage_history())
        seen = shown(versions, registry.aliases(), expected)
        return {each.version: each for each in versions}, expected, seen

    def _answer(self, wish: Wish, versions: Mapping[int, ModelVersion], expected: Shown) -> None:
        why_not = wish.why_not or self._refusal(wish, versions)
        version = versions.get(wish.version)
        label = version.label if version else f"version {wish.version}"
        if why_not:
            self._put_back(wish, versions, expected, why_not)
            outcome = f"{wish.what} by an MLflow client: put back, because {why_not}"
            logger.warning("%s: %s", label, outcome)
        else:
            outcome = f"{wish.what} by an MLflow client: adopted"
            logger.info("%s: %s", label, outcome)
        if version is not None:
            when = self.promoter.clock().isoformat(timespec="seconds")
            self.promoter.registry.set_tags(version, {NOTE: f"{when} {outcome}"})

    def _refusal(self, wish: Wish, versions: Mapping[int, ModelVersion]) -> str:
        """Make a wish come true; or say why not."""
        version = versions.get(wish.version)
        if version is None:
            return "it was not registered by the training pipeline and has nothing to serve"
        reason = f"{wish.what} by an MLflow client"
        try:
            if wish.kind in {"deploy", "test"}:
                self.verify(version)
            if wish.kind == "deploy":
                self.promoter.deploy(version, reason)
            elif wish.kind == "test":
                self.promoter.start_ab_test(version, self.share, self.salt, reason, plan=self.plan)
            elif wish.kind == "stop_test":
                current = self.promoter.store.current()
                # Never None: a test that ended meanwhile must not undo the champion.
                name = (current.experiment if current else None) or ""
                self.promoter.roll_back(reason, name)
            else:
                self.promoter.set_stage(version, cast(Target, wish.stage), reason)
        except TO_BE_TRIED_AGAIN:
            raise
        except FTIError as error:
            return " ".join(str(error).split())
        return ""

    def _put_back(
        self, wish: Wish, versions: Mapping[int, ModelVersion], expected: Shown, why_not: str
    ) -> None:
        """Show again what is recorded, and record that; one who deploys meanwhile has priority."""
        store, registry = self.promoter.store, self.promoter.registry
        with store.recording(None, [self._refused(wish, versions, expected, why_not)]):
            if self._look()[1] != expected:
                raise DeploymentConflict("Somebody deployed meanwhile; the registry is read again.")
            for number in wish.versions:
                registry.set_stage(versions[number], cast(Stage, expected.stages[number]))
            for alias in wish.aliases:
                target = expected.aliases.get(alias)
                if target is None:
                    registry.remove_alias(cast(Alias, alias))
                else:
                    registry.set_alias(cast(Alias, alias), versions[target])

    def _refused(
        self, wish: Wish, versions: Mapping[int, ModelVersion], expected: Shown, why_not: str
    ) -> StageChange:
        version, stage = versions.get(wish.version), expected.stages.get(wish.version, "None")
        return StageChange(
            version=wish.version,
            label=version.label if version else f"version {wish.version}",
            path=(stage, wish.stage, stage),
            reason=f"{wish.what} by an MLflow client: put back, because {why_not}",
            changed_at=self.promoter.clock(),
        )
