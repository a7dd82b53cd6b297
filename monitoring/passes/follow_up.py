"""A pass and its follow-up: results kept, alerts moved on, people told, a retraining requested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from configs.monitoring_config import MonitoringConfig
from monitoring.alerting.rules import Alerts
from monitoring.alerting.states import Alert, Sample
from monitoring.checks.results import PassResult
from monitoring.passes.run import Monitor
from monitoring.reporting.metrics import samples_of
from monitoring.reporting.page import SERIES, report_page
from monitoring.reporting.results_store import ResultsStore
from monitoring.retraining_requests import RetrainingRequest, RetrainingStore, Withheld

PAGE_SPAN = timedelta(days=30)
"""How far back the report page looks."""


@dataclass(frozen=True)
class PassOutcome:
    """One pass, and what its follow-up did.

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
    asked: RetrainingRequest | Withheld | None


@dataclass(frozen=True)
class PassRunner:
    """Runs passes of monitoring and follows them up.

    Parameters
    ----------
    monitor
        Runs the checks.
    results, alerts, retraining
        Keep what was found, tell people, and take requests for a new model.
    """

    config: MonitoringConfig
    monitor: Monitor
    results: ResultsStore
    alerts: Alerts
    retraining: RetrainingStore

    def run(self, now: datetime) -> PassOutcome:
        """Run one pass as of a time, and follow it up.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL does not answer.
        """
        return self.follow_up(self.monitor.run(now))

    def follow_up(self, result: PassResult) -> PassOutcome:
        """Keep what a pass found, move alerts on, and request a retraining where one is wanted."""
        now, samples = result.as_of, samples_of(result, self.config.performance.min_labels)
        version = result.serving.champion if result.serving else None
        self.results.add(now, version, result.seconds, result.to_json(), samples)
        changed = self.alerts.evaluate(samples, now, self.results.values)
        problems = self.alerts.deliver(now)
        self.alerts.remind(now)
        asked = None if version is None else self._request_retraining(version, now)
        return PassOutcome(result, samples, changed, problems, asked)

    def page(self, outcome: PassOutcome) -> str:
        """The report page of a pass."""
        now, scanned = outcome.result.as_of, self.monitor.scanned
        return report_page(
            outcome.result,
            self.alerts.store.alerts(),
            self.results.series(SERIES, now - PAGE_SPAN),
            self.retraining.steps(),
            scanned.features.columns if scanned else (),
        )

    def _request_retraining(
        self, champion: str, now: datetime
    ) -> RetrainingRequest | Withheld | None:
        """Request a retraining where alerts that fire want one."""
        wanting = [
            alert
            for alert in self.alerts.firing()
            if (rule := self.alerts.rule(alert.name)) is not None and rule.retrain
        ]
        if not wanting:
            return None
        reason = "; ".join(alert.message for alert in wanting)
        keys = [alert.key for alert in wanting]
        return self.retraining.request(self.config.retraining, reason, keys, champion, now)
