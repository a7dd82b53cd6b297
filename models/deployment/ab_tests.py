"""A/B tests of deployments: pure functions that start, widen and overrule them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from models.deployment.plan import ExperimentPlan, Mode
from models.deployment.record import (
    BUCKETS,
    Action,
    Arm,
    ArmName,
    Deployment,
    next_record,
    refuse_other_test,
)
from models.errors import DeploymentRefused

NO_TEST = "No A/B test is running. Start one with --stage production --enable-ab-test."


def start_ab_test(
    current: Deployment,
    arm: Arm,
    share: float,
    salt: str,
    now: datetime,
    reason: str = "",
    *,
    plan: ExperimentPlan | None = None,
    mode: Mode | None = None,
) -> Deployment:
    """Give a share of the traffic to a challenger; the champion keeps the rest.

    A test that runs already is widened. A new experiment hashes with a salt of its own.

    Parameters
    ----------
    plan
        How it is judged, for as long as it runs.
    mode
        None for the better one that is possible: see `mode_of`.

    Raises
    ------
    DeploymentRefused
        If another version is under test, the share leaves nothing for one of the arms, or the
        mode is not possible.
    """
    refuse_other_test(current, arm)
    if current.challenger is not None:
        return widen(current, share, now, reason)
    plan = plan or ExperimentPlan()
    started = next_record(
        current, _shared_out(current.champion, arm, share), "start_ab_test", now, reason
    )
    experiment = f"{arm.label}-vs-{current.champion.label}-g{started.generation}"
    return replace(
        started,
        salt=f"{salt}/{experiment}",
        experiment=experiment,
        plan=replace(plan, ramp=tuple(step for step in plan.ramp if step > share)),
        mode=mode_of(current.champion, arm, plan, mode),
    )


def mode_of(champion: Arm, challenger: Arm, plan: ExperimentPlan, asked: Mode | None) -> Mode:
    """Say how two arms are compared: paired where the labels and the features allow it.

    Raises
    ------
    DeploymentRefused
        If ``paired`` is asked for and not possible.
    """
    why_not = ""
    if plan.label_influence:
        why_not = "an answer may influence its label (deployment.ab_test.label_influence)"
    elif champion.fingerprint != challenger.fingerprint:
        why_not = "the two versions take different features, and a receipt holds one vector"
    if asked == "paired" and why_not:
        raise DeploymentRefused(
            f"The test cannot be paired: {why_not}. Start it with --mode split."
        )
    return asked or ("split" if why_not else "paired")


def widen(current: Deployment, share: float, now: datetime, reason: str = "") -> Deployment:
    """Give the challenger under test more traffic: nobody whom it answers moves back.

    Raises
    ------
    DeploymentRefused
        If there is no test, or the share is smaller than the present one.
    """
    challenger = under_test(current)
    arms = _shared_out(current.champion, challenger, share)
    if arms[1].first_bucket > challenger.first_bucket:
        raise DeploymentRefused(
            f"{challenger.label} has {challenger.share:.2%} of the traffic; fewer would move users "
            "back and forth. End the test with rollback, or give it more."
        )
    plan = current.plan or ExperimentPlan()
    left = tuple(step for step in plan.ramp if step > share)
    return _same_test(current, arms, "widen", now, reason, plan=replace(plan, ramp=left))


def override(
    current: Deployment, unit: str, arm: ArmName | None, now: datetime, reason: str = ""
) -> Deployment:
    """Let a unit always have an arm of the running test; None leaves it to its bucket again.

    Raises
    ------
    DeploymentRefused
        If there is no test.
    """
    under_test(current)
    others = tuple(each for each in current.overrides if each[0] != unit)
    overrides = others if arm is None else (*others, (unit, arm))
    return _same_test(current, current.arms, "override", now, reason, overrides=overrides)


def under_test(current: Deployment | None) -> Arm:
    """Give the challenger.

    Raises
    ------
    DeploymentRefused
        If there is no test.
    """
    if current is None or current.challenger is None:
        raise DeploymentRefused(NO_TEST)
    return current.challenger


def _shared_out(champion: Arm, challenger: Arm, share: float) -> tuple[Arm, Arm]:
    """Give the challenger the uppermost buckets: a wider range contains every narrower one."""
    first = BUCKETS - round(share * BUCKETS)
    if not 0 < first < BUCKETS:
        raise DeploymentRefused(
            f"A challenger cannot take {share:.4%} of the traffic; expected a share between "
            "0.0001 and 0.9999."
        )
    return champion.over(0, first), challenger.over(first, BUCKETS, "challenger")


def _same_test(
    current: Deployment,
    arms: tuple[Arm, ...],
    action: Action,
    now: datetime,
    reason: str,
    **changes: Any,
) -> Deployment:
    """The next record of a test that goes on: salt, name, mode, plan and overrides stay."""
    kept = {name: getattr(current, name) for name in ("experiment", "mode", "plan", "overrides")}
    return replace(next_record(current, arms, action, now, reason), **(kept | changes))
