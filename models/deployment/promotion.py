"""Carries out deployments: the record, the stages and the aliases change together or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, Protocol, cast

from models.deployment import ab_tests, record as plans
from models.deployment.plan import ExperimentPlan, Mode
from models.deployment.record import Arm, ArmName, Deployment
from models.deployment.store import DeploymentStore, Override, StageChange
from models.errors import DeploymentConflict, DeploymentRefused, ModelError
from models.registry.versions import ModelRegistry, ModelVersion, Stage

Target = Literal["Staging", "Production", "Archived"]


class Admits(Protocol):
    """Lets a version pass the gates, or refuses it."""

    def admit(
        self, version: ModelVersion, champion: Arm | None, force: str | None = None
    ) -> Override | None:
        """Give what must be recorded when the gates were overruled.

        Raises
        ------
        DeploymentRefused
            If the version may not pass.
        """


@dataclass(frozen=True)
class Promoter:
    """Moves versions through the stages, and traffic with them.

    Parameters
    ----------
    registry
        Holds the stages and aliases that people see.
    store
        Holds the records that servers follow.
    admission
        Asked before a version leaves the stage None, or comes back from the archive.
    clock
        Gives the present time in UTC.
    keep
        Called with each arm before a deployment is recorded, so that what is recorded can be had;
        when it raises, nothing is recorded.
    """

    registry: ModelRegistry
    store: DeploymentStore
    admission: Admits
    clock: Callable[[], datetime]
    keep: Callable[[Arm], None] = lambda arm: None

    def deploy(
        self, version: ModelVersion, reason: str = "", force: str | None = None
    ) -> Deployment | None:
        """Give all traffic to a version; None when it is the champion already.

        Parameters
        ----------
        force
            Why the gates shall be overruled; None obeys them.

        Raises
        ------
        DeploymentRefused
            If another version is under test, or the gates do not let this one pass.
        """
        current = self.store.current()
        if current is not None and current.champion.label == version.label:
            return None
        after = plans.deploy(current, as_arm(version), self.clock(), reason)
        return self._record(current, after, self._admitted(version, current, force))

    def start_ab_test(
        self,
        version: ModelVersion,
        share: float,
        salt: str,
        reason: str = "",
        force: str | None = None,
        *,
        plan: ExperimentPlan | None = None,
        mode: Mode | None = None,
    ) -> Deployment | None:
        """Test a version against the champion on a share of the traffic; None when it already is.

        Without a champion the version takes all traffic. A test that runs is widened if the share
        is larger than its own; its plan and mode stay.

        Parameters
        ----------
        salt
            Mixed into the test's own, so that two systems divide the same users differently.
        force
            Why the gates shall be overruled; None obeys them.
        plan
            How the test is judged; see `models.deployment.plan.ExperimentPlan`.
        mode
            ``split`` or ``paired``; None for paired where that is possible.

        Raises
        ------
        DeploymentRefused
            If another version is under test, the gates do not let this one pass, or the mode is
            not possible.
        """
        current = self.store.current()
        if current is None:
            return self.deploy(version, reason, force)
        if version.label == current.champion.label:
            return None
        known = current.challenger
        if known is not None and known.label == version.label and share <= known.share:
            return None
        after = ab_tests.start_ab_test(
            current, as_arm(version), share, salt, self.clock(), reason, plan=plan, mode=mode
        )
        return self._record(current, after, self._admitted(version, current, force))

    def widen(self, share: float, reason: str = "", experiment: str | None = None) -> Deployment:
        """Give the challenger more traffic.

        Parameters
        ----------
        experiment
            The test that is meant; None for whichever runs.

        Raises
        ------
        DeploymentRefused
            If there is no A/B test, another one than is meant, or it has more traffic already.
        """
        current = self._in_test(experiment)
        return self._record(current, ab_tests.widen(current, share, self.clock(), reason))

    def override(self, unit: str, arm: ArmName | None, reason: str = "") -> Deployment:
        """Let a unit always have an arm of the running test; None ends that.

        Raises
        ------
        DeploymentRefused
            If there is no A/B test.
        """
        current = self._in_test()
        return self._record(current, ab_tests.override(current, unit, arm, self.clock(), reason))

    def promote_challenger(self, reason: str = "", experiment: str | None = None) -> Deployment:
        """Make the challenger the champion.

        Parameters
        ----------
        experiment
            The test that is meant; None for whichever runs.

        Raises
        ------
        DeploymentRefused
            If there is no A/B test, or another one than is meant.
        """
        current = self._in_test(experiment)
        challenger = ab_tests.under_test(current)
        return self._record(current, plans.deploy(current, challenger, self.clock(), reason))

    def roll_back(self, reason: str = "", experiment: str | None = None) -> Deployment:
        """Undo the newest deployment: end a running test, else return to the champion before.

        Parameters
        ----------
        experiment
            The test that shall end; None for whatever is newest.

        Raises
        ------
        DeploymentRefused
            If there is nothing to return to, or another test is running than is meant.
        """
        if experiment is not None:
            self._in_test(experiment)
        history = self.store.history()
        if experiment is not None and history[-1].experiment != experiment:
            raise DeploymentConflict(f"{experiment} ended meanwhile.")
        after = plans.roll_back(history, self.clock(), reason)
        return self._record(history[-1], after)

    def set_stage(
        self, version: ModelVersion, stage: Target, reason: str = "", force: str | None = None
    ) -> bool:
        """Move a version that does not serve to a stage; False when it is there already.

        Raises
        ------
        DeploymentRefused
            If the version serves, or the gates do not let it be staged.
        """
        current = self.store.current()
        if current is not None and version.label in {arm.label for arm in current.arms}:
            raise DeploymentRefused(
                f"{version.label} serves in production and cannot become {stage.lower()}. Deploy "
                "another version first, or roll back: python pipelines/deployment.py rollback."
            )
        [version] = self._as_recorded([version])
        if version.stage == stage:
            return False
        override = None if stage == "Archived" else self._admitted(version, current, force)
        change = self._change(version, stage, reason)
        with self.store.recording(None, [change], override):
            self.registry.set_stage(version, stage)
        return True

    def _admitted(
        self, version: ModelVersion, current: Deployment | None, force: str | None
    ) -> Override | None:
        if current is not None and version.label in {arm.label for arm in current.arms}:
            return None  # it serves already, so it was admitted
        [known] = self._as_recorded([version])
        return self.admission.admit(known, current.champion if current else None, force)

    def _record(
        self, before: Deployment | None, after: Deployment, override: Override | None = None
    ) -> Deployment:
        found = self._as_recorded(self.registry.versions())
        versions = {version.label: version for version in found}
        targets = plans.stage_changes(before, after)
        changes = [
            self._change(versions[label], cast(Target, stage), after.reason)
            for label, stage in targets.items()
            if label in versions
        ]
        for arm in after.arms:
            self.keep(arm)
        with self.store.recording(after, changes, override):
            self._mirror(before, after, changes, versions)
        return after

    def _mirror(
        self,
        before: Deployment | None,
        after: Deployment,
        changes: Sequence[StageChange],
        versions: dict[str, ModelVersion],
    ) -> None:
        """Show a deployment in the registry; when that fails half-way, show the one before."""
        try:
            for change in changes:
                self.registry.set_stage(versions[change.label], cast(Stage, change.path[-1]))
            self._point_aliases(after, versions)
        except ModelError:
            with suppress(ModelError):
                for change in changes:
                    self.registry.set_stage(versions[change.label], cast(Stage, change.path[0]))
                self._point_aliases(before, versions)
            raise

    def _point_aliases(
        self, deployment: Deployment | None, versions: dict[str, ModelVersion]
    ) -> None:
        champion = deployment.champion if deployment else None
        challenger = deployment.challenger if deployment else None
        for alias, arm in (("production", champion), ("challenger", challenger)):
            if arm is not None and arm.label in versions:
                self.registry.set_alias(alias, versions[arm.label])  # type: ignore[arg-type]
            else:
                self.registry.remove_alias(alias)  # type: ignore[arg-type]

    def _as_recorded(self, versions: Sequence[ModelVersion]) -> list[ModelVersion]:
        """The versions with their recorded stages: anybody may have changed what MLflow shows."""
        last = {change.version: change.path[-1] for change in self.store.stage_history()}
        return [
            replace(each, stage=cast(Stage, last.get(each.version, "None"))) for each in versions
        ]

    def _change(self, version: ModelVersion, stage: Target, reason: str) -> StageChange:
        path = plans.stage_path(version.stage, stage)
        return StageChange(version.version, version.label, path, reason, self.clock())

    def _in_test(self, experiment: str | None = None) -> Deployment:
        current = self.store.current()
        ab_tests.under_test(current)
        assert current is not None
        if experiment is not None and current.experiment != experiment:
            raise DeploymentRefused(f"{experiment} has ended; {current.experiment} is running.")
        return current


def as_arm(version: ModelVersion) -> Arm:
    """Give a registered version as an arm that takes all traffic."""
    return Arm(
        name="champion",
        version=version.version,
        label=version.label,
        artifact_uri=version.artifact_uri,
        digest=version.digest,
        fingerprint=version.fingerprint,
    )
