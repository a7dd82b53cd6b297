"""Who may leave the stage None: what the gates say now, or somebody who overrules them.

Decisions are kept in an append-only table in PostgreSQL.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from psycopg.types.json import Jsonb

from models.deployment.record import Arm
from models.deployment.records import Records
from models.deployment.store import Override
from models.errors import DeploymentRefused, RegistryUnavailable
from models.gates.rules import Decision
from models.registry.versions import ModelRegistry, ModelVersion

NEVER_JUDGED = "never judged"


class DecisionStore(Records):
    """The decisions about one registered model's versions."""

    def add(self, version: ModelVersion, decision: Decision) -> None:
        """Keep a decision for ever.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL cannot be reached or goes away.
        """
        row = {
            "version": version.version,
            "label": version.label,
            "passed": decision.passed,
            "decision": Jsonb(decision.to_dict()),
            "judged_at": decision.judged_at,
        }
        with self._translated() as connection, connection.transaction():
            self._insert(connection, "model_gate_decisions", row)

    def of(self, version: ModelVersion) -> list[Decision]:
        """All decisions about this very artifact, oldest first."""
        rows = self._read(
            "SELECT decision FROM model_gate_decisions WHERE model_name = %s AND version = %s "
            "ORDER BY decision_id",
            version.version,
        )
        decisions = [Decision.from_dict(row["decision"]) for row in rows]
        return [each for each in decisions if each.digest == version.digest]

    def newest(self, version: ModelVersion) -> Decision | None:
        """The decision about a version that counts; None when it was never judged."""
        decisions = self.of(version)
        return decisions[-1] if decisions else None


@dataclass(frozen=True)
class Admission:
    """Asks for the gates' decision before a version may be staged or served.

    Parameters
    ----------
    decisions
        What was decided so far.
    judge
        Judges a version against a champion, or against nothing.
    registry
        Shows decisions as tags of the version.
    clock
        Gives the present time in UTC.
    """

    decisions: DecisionStore
    judge: Callable[[ModelVersion, Arm | None], Decision]
    registry: ModelRegistry
    clock: Callable[[], datetime]

    def admit(
        self, version: ModelVersion, champion: Arm | None, force: str | None = None
    ) -> Override | None:
        """Let a version pass, or refuse it.

        A decision against another champion than the present one is made anew.

        Parameters
        ----------
        force
            Why it shall pass whatever the gates say; None obeys them.

        Returns
        -------
        Override or None
            What must be recorded when the gates were overruled.

        Raises
        ------
        DeploymentRefused
            If it was never judged, or a gate is closed; the message gives each reason.
        """
        decision = self.decisions.newest(version)
        to_beat = digest_to_beat(version, champion)
        if force is not None:
            return self._forced(version, decision, to_beat, force)
        if decision is None:
            raise DeploymentRefused(
                f"{version.label} was never judged, so it stays in {version.stage}. Judge it: "
                f'python -m models judge {version.label}; or overrule with --force "reason".'
            )
        if decision.champion_digest != to_beat:
            decision = self.judge_and_record(version, champion)
        if not decision.passed:
            raise DeploymentRefused(
                f"{version.label} may not leave {version.stage}: {decision.refusals}. Train a "
                'better one, or overrule with --force "reason".'
            )
        return None

    def judge_and_record(self, version: ModelVersion, champion: Arm | None) -> Decision:
        """Judge a version, keep the decision, and show it in the registry."""
        decision = self.judge(version, champion)
        self.decisions.add(version, decision)
        with suppress(RegistryUnavailable):  # the record counts, the tags are for people
            self.registry.set_tags(version, decision.tags())
        return decision

    def _forced(
        self, version: ModelVersion, decision: Decision | None, to_beat: str | None, force: str
    ) -> Override | None:
        if not force.strip():
            raise DeploymentRefused('--force needs a reason; give it as --force "reason".')
        if decision is None:
            overruled = NEVER_JUDGED
        elif not decision.passed:
            overruled = decision.refusals
        elif decision.champion_digest != to_beat:
            overruled = f"not judged against what serves now; {decision.summary}"
        else:
            return None
        return Override(
            version.version, version.label, overruled, force, getpass.getuser(), self.clock()
        )


def digest_to_beat(version: ModelVersion, champion: Arm | None) -> str | None:
    """The artifact that a version must be no worse than; None when it serves itself."""
    if champion is None or champion.digest == version.digest:
        return None
    return champion.digest
