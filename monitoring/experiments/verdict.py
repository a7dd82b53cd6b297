"""What an A/B test's evidence calls for: a pure function, and the words for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from models.deployment.plan import ExperimentPlan
from monitoring.experiments.evidence import Evidence, Primary
from monitoring.experiments.guardrails import Guardrail

Action = Literal["rollback", "promote", "ramp", "continue"]


@dataclass(frozen=True)
class Standing:
    """Where a test stands in time and traffic.

    Parameters
    ----------
    share
        Of the challenger now, since ``share_since``.
    """

    share: float
    started_at: datetime
    share_since: datetime
    now: datetime


@dataclass(frozen=True)
class Verdict:
    """What to do, why, and for ``ramp`` the next share."""

    action: Action
    reason: str
    share: float | None = None


def decide(evidence: Evidence, plan: ExperimentPlan, standing: Standing) -> Verdict:
    """Say what the evidence calls for.

    A mismatch of the sample ratio, or harm that is shown, ends the test at once. What is shown to
    be better (or no worse, where that was asked) is promoted when nothing speaks against it and
    the test has run for its minimum. Otherwise it goes on, with more traffic if a ramp is due.
    """
    return (
        _mismatch(evidence)
        or _harm(evidence, plan)
        or _promotion(evidence, plan, standing)
        or _ramp(evidence, plan, standing)
        or Verdict("continue", _so_far(evidence))
    )


def _mismatch(evidence: Evidence) -> Verdict | None:
    for ratio in evidence.ratios:
        if ratio.is_mismatch:
            return Verdict(
                "rollback",
                f"sample ratio mismatch among {ratio.among} units of phase {ratio.phase}: "
                f"{ratio.n_challenger:,} of {ratio.n:,} had the challenger "
                f"({ratio.n_challenger / ratio.n:.2%}), expected {ratio.share:.2%}. Whatever the "
                "arms differ in now, it is not the models alone",
            )
    return None


def _harm(evidence: Evidence, plan: ExperimentPlan) -> Verdict | None:
    primary = evidence.primary
    allowed = plan.margin if plan.objective == "non_inferiority" else 0.0
    if primary is not None and primary.is_ready and primary.lower > allowed:
        return Verdict(
            "rollback", f"the challenger is worse: {_describe(evidence.metric, primary)}"
        )
    for guardrail in evidence.guardrails:
        if guardrail.state == "harm":
            return Verdict("rollback", f"guardrail {_describe_harm(guardrail)}")
    return None


def _promotion(evidence: Evidence, plan: ExperimentPlan, standing: Standing) -> Verdict | None:
    primary = evidence.primary
    allowed = plan.margin if plan.objective == "non_inferiority" else 0.0
    if primary is None or not primary.is_ready or primary.upper >= allowed:
        return None
    shown = _describe(evidence.metric, primary)
    word = "no worse" if plan.objective == "non_inferiority" else "better"
    so = f"the challenger is {word}: {shown}"
    veto = [each for each in evidence.slices if each.state == "harm"]
    doubtful = [each.name for each in evidence.guardrails if each.state != "clear"]
    left_s = plan.minimum_run_s - (standing.now - standing.started_at).total_seconds()
    if veto:
        return Verdict("continue", f"{so}; but a slice objects: {_describe_harm(veto[0])}")
    if doubtful:
        return Verdict("continue", f"{so}; but not clear yet: {', '.join(doubtful)}")
    if left_s > 0:
        return Verdict("continue", f"{so}; but it must run for {left_s:,.0f} s more")
    return Verdict("promote", so)


def _ramp(evidence: Evidence, plan: ExperimentPlan, standing: Standing) -> Verdict | None:
    lasted_s = (standing.now - standing.share_since).total_seconds()
    steps = [share for share in plan.ramp if share > standing.share]
    rails = evidence.guardrails
    is_clear = bool(rails) and all(each.state == "clear" for each in rails)
    if not steps or lasted_s < plan.ramp_step_s or not is_clear:
        return None
    reason = f"{standing.share:.0%} has lasted {lasted_s:,.0f} s and no guardrail objects"
    return Verdict("ramp", f"{reason}; {_so_far(evidence)}", steps[0])


def _so_far(evidence: Evidence) -> str:
    primary = evidence.primary
    if primary is None:
        return f"no unit of {evidence.units:,} has a matured label yet"
    if not primary.is_ready:
        return f"too few events for a decision ({primary.events or 0:.0f} in the smaller arm)"
    return f"undecided: {_describe(evidence.metric, primary)}"


def _describe(metric: str, primary: Primary) -> str:
    return (
        f"{metric} {primary.mean:+.5f} [{primary.lower:+.5f}, {primary.upper:+.5f}] "
        f"on {primary.n:,} units"
    )


def _describe_harm(rail: Guardrail) -> str:
    champion = f", champion at most {rail.champion.upper:.4f}" if rail.champion else ""
    return (
        f"{rail.name}: challenger at least {rail.challenger.lower:.4f}{champion}, allowed "
        f"{rail.margin:g} more"
    )
