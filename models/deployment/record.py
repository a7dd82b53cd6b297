"""What is deployed, as data: one small record, and pure functions that compute the next one.

A record names its arms and the buckets of traffic that each answers. The newest record is what
serves; older ones are its history. Nothing here knows a database, a clock or a registry.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from models.deployment.plan import ExperimentPlan, Mode
from models.errors import DeploymentRefused

BUCKETS = 10_000
"""Traffic is divided in ten-thousandths."""

ArmName = Literal["champion", "challenger"]
Action = Literal["deploy", "start_ab_test", "widen", "override", "promote", "rollback"]


@dataclass(frozen=True)
class Arm:
    """One model version and the half-open range of buckets that it answers.

    Parameters
    ----------
    artifact_uri, digest
        Where the artifact lies, and the SHA-256 of its manifest.
    fingerprint
        Of the version of the features that it takes.
    """

    name: ArmName
    version: int
    label: str
    artifact_uri: str
    digest: str
    first_bucket: int = 0
    last_bucket: int = BUCKETS
    fingerprint: str = ""

    @property
    def share(self) -> float:
        """The share of traffic that this arm answers."""
        return (self.last_bucket - self.first_bucket) / BUCKETS

    def over(self, first_bucket: int, last_bucket: int, name: ArmName | None = None) -> Arm:
        """Return the same version over other buckets, perhaps in another role."""
        return replace(
            self,
            name=name or self.name,
            first_bucket=first_bucket,
            last_bucket=last_bucket,
        )


@dataclass(frozen=True)
class Deployment:
    """Which versions answer which traffic, since when and why.

    Parameters
    ----------
    generation
        1, 2, 3, …: the newest is what serves.
    arms
        The champion, and while an A/B test runs the challenger behind it.
    salt
        What the units are hashed with; it belongs to the experiment.
    experiment
        Name of the running A/B test; None when there is none.
    mode
        ``split``: the arm that answers scores. ``paired``: both score every request.
    plan
        How the test is judged; None when there is none.
    overrides
        Units that always get an arm, whatever their bucket: they are left out of the evidence.
    """

    generation: int
    arms: tuple[Arm, ...]
    salt: str
    experiment: str | None
    action: Action
    reason: str
    created_at: datetime
    mode: Mode = "split"
    plan: ExperimentPlan | None = None
    overrides: tuple[tuple[str, ArmName], ...] = ()

    @property
    def champion(self) -> Arm:
        """The arm that everybody gets who is not in a test."""
        return self.arms[0]

    @property
    def challenger(self) -> Arm | None:
        """The arm under test."""
        return self.arms[1] if len(self.arms) > 1 else None

    @cached_property
    def digest(self) -> str:
        """SHA-256 in hex of what serves since when: records of others may have its number, too."""
        arms = [[arm.label, arm.digest, arm.first_bucket, arm.last_bucket] for arm in self.arms]
        about = [self.generation, self.created_at.timestamp(), self.experiment, arms]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Give the record as JSON values; `from_dict` reads it back."""
        return asdict(self) | {"created_at": self.created_at.isoformat()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Deployment:
        """Read what `to_dict` wrote."""
        plan = values.get("plan")
        read = {
            "arms": tuple(Arm(**arm) for arm in values["arms"]),
            "created_at": datetime.fromisoformat(str(values["created_at"])),
            "plan": None if plan is None else ExperimentPlan.from_dict(plan),
            "overrides": tuple((unit, arm) for unit, arm in values.get("overrides") or ()),
        }
        return cls(**(values | read))


def deploy(current: Deployment | None, arm: Arm, now: datetime, reason: str = "") -> Deployment:
    """Give all traffic to a version, in place of the champion if there is one.

    The challenger itself may be deployed: that ends its test.

    Raises
    ------
    DeploymentRefused
        If another version is under test.
    """
    refuse_other_test(current, arm)
    everything = arm.over(0, BUCKETS, "champion")
    is_promotion = current is not None and current.challenger is not None
    return next_record(current, (everything,), "promote" if is_promotion else "deploy", now, reason)


def roll_back(history: Sequence[Deployment], now: datetime, reason: str = "") -> Deployment:
    """Undo the newest deployment: withdraw a challenger, else return to the champion before.

    Rolling back again goes further back, never forward to what was rolled back.

    Parameters
    ----------
    history
        All records, oldest first.

    Raises
    ------
    DeploymentRefused
        If there was no champion before.
    """
    champions = _champions(history)
    if history and history[-1].challenger is not None:
        target = champions[-1]
    elif len(champions) > 1:
        target = champions[-2]
    else:
        serving = f"{champions[-1].label} is the only champion so far" if champions else "none"
        raise DeploymentRefused(
            f"There is no champion to roll back to ({serving}). Deploy another version first."
        )
    return next_record(history[-1], (target.over(0, BUCKETS, "champion"),), "rollback", now, reason)


def stage_changes(before: Deployment | None, after: Deployment) -> dict[str, str]:
    """Say which versions change their stage between two records: label to new stage."""
    was = {arm.label for arm in before.arms} if before else set()
    serves = {arm.label for arm in after.arms}
    return dict.fromkeys(sorted(was - serves), "Archived") | dict.fromkeys(
        sorted(serves - was), "Production"
    )


def stage_path(now: str, target: str) -> tuple[str, ...]:
    """Name the stages that a version passes on its way; Production is reached through Staging.

    Examples
    --------
    >>> stage_path("None", "Production")
    ('None', 'Staging', 'Production')
    >>> stage_path("Production", "Archived")
    ('Production', 'Archived')
    """
    if target == "Production" and now not in {"Staging", "Production"}:
        return now, "Staging", target
    return now, target


def _champions(history: Sequence[Deployment]) -> list[Arm]:
    """Stack up the champions; a rollback takes off what it undid."""
    stack: list[Arm] = []
    for record in history:
        labels = [arm.label for arm in stack]
        label = record.champion.label
        if record.action == "rollback" and label in labels:
            del stack[len(labels) - labels[::-1].index(label) :]
        elif not stack or labels[-1] != label:
            stack.append(record.champion)
    return stack


def refuse_other_test(current: Deployment | None, arm: Arm) -> None:
    """Raise `DeploymentRefused` if another version than the arm's is under test."""
    challenger = current.challenger if current else None
    if challenger is not None and challenger.label != arm.label:
        raise DeploymentRefused(
            f"{challenger.label} is under test with {challenger.share:.0%} of the traffic; one "
            "challenger at a time. End it first: python pipelines/deployment.py promote, or "
            "rollback."
        )


def next_record(
    current: Deployment | None,
    arms: tuple[Arm, ...],
    action: Action,
    now: datetime,
    reason: str,
) -> Deployment:
    """The record that follows; whatever test was running is not in it."""
    generation = current.generation + 1 if current else 1
    return Deployment(
        generation=generation,
        arms=arms,
        salt=current.salt if current else "",
        experiment=None,
        action=action,
        reason=reason,
        created_at=now,
    )
