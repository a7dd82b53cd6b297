"""What follows from a pass: results kept, alerts moved on, people told, a retraining asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from configs.monitoring_config import MonitoringConfig
from monitoring.alerting.states import Alert, Sample
from monitoring.alerts import Alerts
from monitoring.passes.run import Monitor, PassResult
from monitoring.reporting.metrics import samples_of
from monitoring.reporting.page import SERIES, report_page
from monitoring.reporting.results_store import ResultsStore
from monitoring.retraining.rules import Request, Withheld
from monitoring.retraining.store import RetrainingStore

COURSE = timedelta(days=30)
"""How far back the report page looks."""


@dataclass(frozen=True)
class Watch:
    """One pass, and what followed from it.

    Parameters
    ----------
    changed
        Alerts whose state changed.
    problems
        Sinks that did not take what they were sent, and why.
    asked
        The retraining that was asked for, why there is none, or None where none is wanted.
    """

    result: PassResult
    samples: Sequence[Sample]
    changed: Sequence[Alert]
    problems: dict[str, str]
    asked: Request | Withheld | None


@dataclass(frozen=True)
class Watchkeeper:
    """Runs passes and does what follows.

    Parameters
    ----------
    monitor, results, alerts, retraining
        What checks, keeps, tells and asks.
    """

    config: MonitoringConfig
    monitor: Monitor
    results: ResultsStore
    alerts: Alerts
    retraining: RetrainingStore

    def keep(self, now: datetime) -> Watch:
        """Run one pass as of a time.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL does not answer.
        """
        result = self.monitor.run(now)
        samples = samples_of(result, self.config.performance.min_labels)
        version = result.watched.champion if result.watched else None
        self.results.add(now, version, result.seconds, result.to_json(), samples)
        changed = self.alerts.look(samples, now, self.results.values)
        problems = self.alerts.deliver(now)
        self.alerts.remind(now)
        return Watch(result, samples, changed, problems, self._ask(version, now))

    def page(self, watch: Watch) -> str:
        """The report page of a pass."""
        now, scanned = watch.result.as_of, self.monitor.scanned
        return report_page(
            watch.result,
            self.alerts.store.alerts(),
            self.results.series(SERIES, now - COURSE),
            self.retraining.steps(),
            scanned.features.columns if scanned else (),
        )

    def _ask(self, champion: str | None, now: datetime) -> Request | Withheld | None:
        """Ask for a retraining where alerts that fire want one."""
        if champion is None:
            return None
        wanting = []
        for alert in self.alerts.firing():
            rule = self.alerts.rule(alert.name)
            if rule is not None and rule.retrain:
                wanting.append(alert)
        if not wanting:
            return None
        reason = "; ".join(alert.message for alert in wanting)
        keys = [alert.key for alert in wanting]
        return self.retraining.request(self.config.retraining, reason, keys, champion, now)
