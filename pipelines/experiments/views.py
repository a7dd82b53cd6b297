"""A/B tests as people see them on a terminal, and programs as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from configs.output import Display, Table
from models.deployment.record import Deployment
from monitoring.experiments.store import ExperimentDecision
from pipelines.experiments.controller import Look

RATIO_COLUMNS = ("among", "phase", "share", "challenger", "units", "evidence", "mismatch from")
RAIL_COLUMNS = ("guardrail", "champion", "challenger", "allowed more", "state")


def status_answer(look: Look) -> Display:
    """Everything about the running test."""
    deployment, evidence, plan = look.deployment, look.evidence, look.plan
    arms = [(arm.name, arm.label, arm.share) for arm in deployment.arms]
    about = [
        ("mode", deployment.mode),
        ("started", look.phases.started_at),
        ("shares so far", " → ".join(f"{share:.0%}" for share in look.phases.shares)),
        ("shares to come", " → ".join(f"{share:.0%}" for share in plan.ramp) or None),
        ("overrides", ", ".join(f"{unit}: {arm}" for unit, arm in deployment.overrides) or None),
        ("predictions", evidence.exposures),
        ("units", evidence.units),
        ("units that count", evidence.counted),
        *_primary(evidence.to_dict()),
        ("calls for", look.verdict.action),
        ("because", look.verdict.reason),
    ]
    data = {
        "experiment": deployment.experiment,
        "generation": deployment.generation,
        "arms": [dict(zip(("arm", "version", "share"), arm, strict=True)) for arm in arms],
        "mode": deployment.mode,
        "shares": look.phases.shares,
        "overrides": deployment.overrides,
        "plan": plan.to_dict(),
        "evidence": evidence.to_dict(),
        "action": look.verdict.action,
        "reason": look.verdict.reason,
    }
    tables = [
        Table(str(deployment.experiment), ("arm", "version", "share"), arms),
        Table("", ("what", "value"), about),
        *_tables(evidence.to_dict()),
    ]
    return Display(data, tables)


def history_answer(
    decisions: Sequence[ExperimentDecision], deployments: Sequence[Deployment]
) -> Display:
    """All decisions, and all deployments, each oldest first."""
    made = [
        (d.decision_id, d.decided_at, d.experiment, d.action, d.decided_by, d.reason)
        for d in decisions
    ]
    recorded = [
        (
            each.generation,
            each.created_at,
            each.action,
            ", ".join(f"{arm.label} {arm.share:.0%}" for arm in each.arms),
            each.reason,
        )
        for each in deployments
    ]
    data = {
        "decisions": [vars(decision) for decision in decisions],
        "deployments": [each.to_dict() for each in deployments],
    }
    columns = ("decision", "at", "experiment", "action", "by", "reason")
    return Display(
        data,
        [
            Table("Decisions" if made else "No decision yet", columns if made else (), made),
            Table("Deployments", ("generation", "at", "action", "traffic", "reason"), recorded),
        ],
    )


def summary(decision: ExperimentDecision) -> str:
    """A decision in a line."""
    challenger, champion = decision.challenger, decision.champion
    said = {
        "promote": f"Promoted {challenger} in place of {champion}",
        "rollback": f"Rolled back {challenger}: {champion} takes all traffic",
        "ramp": f"Widened the traffic of {challenger}",
        "continue": f"The test of {challenger} goes on",
    }
    return f"{said[decision.action]}: {decision.reason}"


def _primary(evidence: Mapping[str, Any]) -> Iterable[tuple[str, object]]:
    primary = evidence["primary"]
    if primary is None:
        return
    metric = evidence["metric"]
    yield f"{metric} of the champion", primary["champion"]
    yield f"{metric} of the challenger", primary["challenger"]
    limits = f"[{primary['lower']:+.5f}, {primary['upper']:+.5f}]"
    yield "difference", f"{primary['mean']:+.5f} {limits} on {primary['n']:,} units"
    if primary["events"] is not None:
        yield "events of the smaller arm", primary["events"]


def _tables(evidence: Mapping[str, Any]) -> Iterable[Table]:
    ratios = [
        (
            r["among"],
            r["phase"],
            r["share"],
            r["n_challenger"],
            r["n"],
            r["log_evidence"],
            r["limit"],
        )
        for r in evidence["ratios"]
    ]
    yield Table("Sample ratio", RATIO_COLUMNS, ratios)
    rails = [
        (r["name"], _limits(r["champion"]), _limits(r["challenger"]), r["margin"], r["state"])
        for r in (*evidence["guardrails"], *evidence["slices"])
    ]
    if rails:
        yield Table("Guardrails, and slices that may veto", RAIL_COLUMNS, rails)


def _limits(bound: Mapping[str, float] | None) -> str | None:
    if bound is None:
        return None
    return f"{bound['mean']:.4f} [{bound['lower']:.4f}, {bound['upper']:.4f}] n={bound['n']:,}"
