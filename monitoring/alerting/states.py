"""How an alert lives: pending, firing, resolved. Pure functions of rules, values and time."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from configs.monitoring_config import RuleConfig, Severity

State = Literal["inactive", "pending", "firing", "resolved"]
COMPARATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Sample:
    """One value of a metric.

    Parameters
    ----------
    labels
        What tells it from other values of the metric.
    detail
        What people should know with it, such as the features that moved.
    """

    metric: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    detail: str = ""


@dataclass(frozen=True)
class Alert:
    """An alert, as it is now.

    Parameters
    ----------
    name, labels
        The rule, and the labels of the values that it is about: together they are its identity.
    value, threshold
        What was measured last, and what it was compared with.
    since, fired_at, resolved_at
        When it became pending, fired, and ended.
    notified_at
        When somebody was last told that it fires.
    is_announced
        Whether somebody was told of this very episode; only then its end is told too.
    """

    name: str
    labels: Mapping[str, str]
    state: State
    severity: Severity
    owner: str
    runbook: str
    summary: str
    detail: str
    value: float
    threshold: float
    since: datetime
    fired_at: datetime | None = None
    resolved_at: datetime | None = None
    notified_at: datetime | None = None
    is_announced: bool = False

    @property
    def key(self) -> str:
        """Its identity as text.

        Examples
        --------
        >>> key_of("low_accuracy", {"arm": "champion"})
        'low_accuracy{arm=champion}'
        """
        return key_of(self.name, self.labels)

    @property
    def message(self) -> str:
        """One line for people."""
        said = f"{self.summary}: {self.detail}" if self.detail else self.summary
        if self.state == "resolved" and self.detail:
            said = f"Over; now {self.detail}"
        return said or f"{self.key} is {self.value:.4g} (threshold {self.threshold:.4g})"


@dataclass(frozen=True)
class Transition:
    """What one look at a rule leads to: the alert now, and whether somebody must be told."""

    alert: Alert
    tell: bool


def key_of(name: str, labels: Mapping[str, str]) -> str:
    """Identity of an alert as text."""
    inner = ",".join(f"{label}={value}" for label, value in sorted(labels.items()))
    return f"{name}{{{inner}}}" if inner else name


def applies(rule: RuleConfig, sample: Sample) -> bool:
    """Whether a rule is about a value."""
    return sample.metric == rule.metric and all(
        sample.labels.get(label) == value for label, value in rule.labels.items()
    )


def aggregate(values: Sequence[float], rule: RuleConfig) -> float:
    """The values of a rule's window, oldest first, as one."""
    if rule.window_minutes == 0:
        return values[-1]
    if rule.aggregate == "mean":
        return sum(values) / len(values)
    return min(values) if rule.aggregate == "min" else max(values)


def advance(
    rule: RuleConfig, known: Alert | None, sample: Sample, value: float, now: datetime
) -> Transition | None:
    """Move an alert on by one look; None when there is none, and was none.

    What is not measured does not move: an alert ends when its value is good again, and not
    because nobody looked.

    Parameters
    ----------
    known
        The alert so far.
    value
        The sample's value over the rule's window.
    """
    holds = COMPARATORS[rule.comparator](value, rule.threshold)
    active = known is not None and known.state in ("pending", "firing")
    if not holds:
        return _end(known, sample, value, now) if known is not None and active else None
    alert = _renew(rule, known if active else None, sample, value, now)
    if not active and known is not None:  # a cooldown outlasts the episode
        alert = replace(alert, notified_at=known.notified_at)
    if now - alert.since < timedelta(minutes=rule.for_minutes):
        return Transition(alert, tell=False)
    alert = replace(alert, state="firing", fired_at=alert.fired_at or now)
    told = alert.notified_at
    is_cool = told is None or now - told >= timedelta(minutes=rule.cooldown_minutes)
    if alert.is_announced or not is_cool:
        return Transition(alert, tell=False)
    return Transition(replace(alert, notified_at=now, is_announced=True), tell=True)


def _end(known: Alert, sample: Sample, value: float, now: datetime) -> Transition:
    known = replace(known, value=value, detail=sample.detail)
    if known.state == "pending":
        return Transition(replace(known, state="inactive"), tell=False)
    ended = replace(known, state="resolved", resolved_at=now)
    return Transition(ended, tell=known.is_announced)


def _renew(
    rule: RuleConfig, known: Alert | None, sample: Sample, value: float, now: datetime
) -> Alert:
    if known is not None:
        return replace(known, value=value, detail=sample.detail)
    return Alert(
        name=rule.name,
        labels=sample.labels,
        state="pending",
        severity=rule.severity,
        owner=rule.owner,
        runbook=rule.runbook,
        summary=rule.summary,
        detail=sample.detail,
        value=value,
        threshold=rule.threshold,
        since=now,
    )
