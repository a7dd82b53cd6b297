"""Alerts: rules evaluated with every pass, states kept, each episode told once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from configs.monitoring_config import AlertsConfig, RuleConfig, Severity
from monitoring.alerting.sinks import AlertmanagerSink, AlertSink, wants
from monitoring.alerting.states import Alert, Sample, advance, aggregate, applies, key_of
from monitoring.alerting.store import AlertStore

logger = logging.getLogger("monitoring.alerts")

History = Callable[[str, Mapping[str, str], datetime], list[float]]

DIRECT = "message"
"""Name of alerts that were sent without a rule."""


class Alerts:
    """Evaluates rules, keeps states, and tells people.

    Parameters
    ----------
    config
        Rules, and how long sinks are tried.
    store
        Where everything about alerts is kept.
    sinks
        Who is told.
    """

    def __init__(self, config: AlertsConfig, store: AlertStore, sinks: Sequence[AlertSink]) -> None:
        self.config = config
        self.store = store
        self.sinks = sinks

    def evaluate(self, samples: Sequence[Sample], now: datetime, history: History) -> list[Alert]:
        """Move all alerts on by the values of one pass; give those that changed their state.

        Parameters
        ----------
        history
            Gives the values of a metric since a time, this pass's included, oldest first.
        """
        changed: list[Alert] = []
        with self.store.transaction() as connection:
            for rule in self.config.rules:
                for sample in samples:
                    if not applies(rule, sample):
                        continue
                    known = self.store.find(connection, key_of(rule.name, sample.labels))
                    step = advance(
                        rule, known, sample, self._value(rule, sample, now, history), now
                    )
                    if step is None:
                        continue
                    self.store.put(connection, step.alert)
                    if step.tell:
                        self._tell(connection, step.alert, now)
                    if known is None or known.state != step.alert.state:
                        changed.append(step.alert)
        return changed

    def send(
        self,
        message: str,
        severity: Severity,
        now: datetime,
        labels: Mapping[str, str] | None = None,
        name: str = DIRECT,
    ) -> bool:
        """Tell of something at once; False when the same was told less than a cooldown ago.

        Parameters
        ----------
        labels
            With the name its identity; without any, the message is.
        """
        labels = dict(labels or {"message": message})
        rule = RuleConfig(
            name=name,
            metric=name,
            comparator=">=",
            threshold=1,
            severity=severity,
            owner="whoever asked",
            runbook="docs/monitoring.md#alerts",
            summary=message,
        )
        with self.store.transaction() as connection:
            known = self.store.find(connection, key_of(name, labels))
            ended = known and replace(known, state="resolved", is_announced=False)
            step = advance(rule, ended, Sample(name, 1, labels), 1, now)
            assert step is not None
            # It is an event, and no state: no later value would end it.
            self.store.put(connection, replace(step.alert, state="resolved", resolved_at=now))
            if step.tell:
                self._tell(connection, step.alert, now)
        self.deliver(now)
        return step.tell

    def deliver(self, now: datetime) -> dict[str, str]:
        """Send what is waiting; give what went wrong, by sink. It is tried again later."""
        problems: dict[str, str] = {}
        for sink in self.sinks:
            _, problem = self.store.deliver(sink.name, sink.send, now, self._pause)
            if problem is not None:
                problems[sink.name] = problem
                logger.warning("alerts: %s does not take them: %s", sink.name, problem)
        return problems

    def remind(self, now: datetime) -> None:
        """Tell sinks that may have forgotten what still fires; next time again if they are away."""
        for sink in self.sinks:
            if not isinstance(sink, AlertmanagerSink):
                continue
            firing = [each for each in self.firing() if each.is_announced and wants(sink, each)]
            try:
                sink.remind(firing, now)
            except Exception as error:  # noqa: BLE001 - it is told again with the next pass
                logger.warning("alerts: %s cannot be reminded: %s", sink.name, error)

    def firing(self) -> list[Alert]:
        """The alerts that fire."""
        return self.store.alerts(("firing",))

    def rule(self, name: str) -> RuleConfig | None:
        """The rule of an alert, if it still is one."""
        return next((rule for rule in self.config.rules if rule.name == name), None)

    def _tell(self, connection: object, alert: Alert, now: datetime) -> None:
        sinks = [sink.name for sink in self.sinks if wants(sink, alert)]
        self.store.tell(connection, alert, sinks, now)  # type: ignore[arg-type]

    def _value(self, rule: RuleConfig, sample: Sample, now: datetime, history: History) -> float:
        if rule.window_minutes == 0:
            return sample.value
        since = now - timedelta(minutes=rule.window_minutes)
        return aggregate(history(sample.metric, sample.labels, since) or [sample.value], rule)

    def _pause(self, attempts: int) -> timedelta:
        seconds = min(self.config.retry_s * 2 ** (attempts - 1), self.config.max_retry_s)
        return timedelta(seconds=seconds)
