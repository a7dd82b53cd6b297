"""The values of metrics that a pass gives: for rules, gauges and the history."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server, write_to_textfile
from prometheus_client.core import GaugeMetricFamily, Metric

from infrastructure.servers.ports import holder
from monitoring.alerting.states import Alert, Sample
from monitoring.checks.data_quality import QualityReport
from monitoring.checks.drift import DriftReport, LabelDrift
from monitoring.checks.performance import Performance, PerformanceReport
from monitoring.checks.results import PassResult
from monitoring.checks.skew_audit import SkewReport
from monitoring.errors import MonitoringError

PREFIX = "fti_monitoring_"


def samples_of(result: PassResult, min_labels: int) -> list[Sample]:
    """The values of metrics that a pass gives, for rules, gauges and history.

    Metrics of serving versions carry their arm: those of a version count from its first
    prediction on, whatever its arm was then, so that a new champion brings its own record along.
    """
    samples = [Sample("failed_checks", len(result.failed), detail=_failures(result))]
    for outcome in result.outcomes.values():
        if isinstance(outcome, DriftReport):
            samples += _of_drift(outcome)
        elif isinstance(outcome, PerformanceReport) and result.serving is not None:
            samples += _of_performance(outcome, result.serving.roles, min_labels)
        elif isinstance(outcome, LabelDrift):
            samples.append(
                Sample("label_drift", float(outcome.has_drifted), detail=outcome.summary)
            )
            samples.append(Sample("label_share", outcome.now))
        elif isinstance(outcome, SkewReport):
            samples.append(Sample("skew_mismatch_share", outcome.share, detail=outcome.summary))
        elif isinstance(outcome, QualityReport):
            samples += _of_quality(outcome)
    return [sample for sample in samples if sample.value == sample.value]  # NaN says nothing


def _of_drift(report: DriftReport) -> Iterator[Sample]:
    said = report.summary
    yield Sample("drifted_features", len(report.drifted), detail=said)
    yield Sample("drift_weighted_share", report.weighted_share, detail=said)
    yield Sample("harmful_drift", float(report.is_harmful), detail=said)
    if report.scores is not None:
        yield Sample("score_psi", report.scores.psi)
        yield Sample("score_drift", float(report.scores.has_drifted))
    yield Sample("window_predictions", report.n_current)
    for feature in report.features:
        labels = {"feature": feature.name}
        yield Sample("feature_psi", feature.psi, labels)
        yield Sample("feature_missing_share", feature.missing[1], labels)
        yield Sample("feature_unseen_share", feature.unseen, labels)


def _of_performance(
    report: PerformanceReport, roles: Mapping[str, str], min_labels: int
) -> Iterator[Sample]:
    yield Sample("label_coverage", report.coverage.share)
    yield Sample("label_delay_seconds", report.coverage.delay_s[0])
    yield Sample("labelled_predictions", report.coverage.labelled)
    groups: list[tuple[dict[str, str], Performance]] = [({}, report.whole)]
    groups += [({"arm": roles[g.word]}, g) for g in report.of("model_version") if g.word in roles]
    for labels, group in groups:
        if group.n < min_labels:
            continue
        said = f"over {group.n:,} labelled predictions"
        who = f" of {group.word}" if labels else ""
        for name, estimate in group.metrics.items():
            detail = f"{name} {estimate.value:.4f} ({estimate.low:.4f} to {estimate.high:.4f})"
            yield Sample(name, estimate.value, labels, f"{detail} {said}{who}")


def _of_quality(report: QualityReport) -> Iterator[Sample]:
    yield Sample("broken_contracts", len(report.broken), detail=report.summary)
    for clause in report.clauses:
        if clause.name not in ("missing", "unseen", "range"):
            yield Sample(f"quality_{clause.name}", clause.value, {"subject": clause.subject})


def _failures(result: PassResult) -> str:
    return "; ".join(f"{each.check}: {each.reason}" for each in result.failed)


class Gauges:
    """Collects what the newest pass found."""

    def __init__(self) -> None:
        self._families: Sequence[Metric] = ()
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def show(
        self,
        samples: Sequence[Sample],
        alerts: Sequence[Alert],
        waiting: Mapping[str, int],
        as_of: datetime,
        seconds: float,
    ) -> None:
        """Show one pass in place of the one before.

        Parameters
        ----------
        waiting
            Sink to the notices that it has not taken yet.
        """
        fixed = [
            Sample("last_pass_timestamp_seconds", as_of.timestamp()),
            Sample("pass_seconds", seconds),
            *(Sample("notices_waiting", n, {"sink": sink}) for sink, n in waiting.items()),
            *(
                Sample("alert_firing", 1, {"alert": each.name, "severity": each.severity})
                for each in alerts
            ),
        ]
        self._families = list(_families([*samples, *fixed]))

    def collect(self) -> Sequence[Metric]:
        """Give all gauges, as the client library asks for them."""
        return self._families

    def write(self, path: Path) -> None:
        """Write them as a file, for node-exporter's textfile collector."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_to_textfile(str(path), self.registry)

    def serve(self, port: int) -> int:
        """Serve them under ``/metrics`` from a thread; give the port.

        Raises
        ------
        MonitoringError
            If another program holds the port: whoever collects from it must find these.
        """
        try:
            server, _ = start_http_server(port, registry=self.registry)
        except OSError as error:
            held_by = holder(port) or "another program"
            raise MonitoringError(
                f"The gauges cannot be served on port {port} ({error.strerror}); it is held by "
                f"{held_by}. Stop that, or set monitoring.metrics_port to another port."
            ) from error
        return int(server.server_port)


def _families(samples: Sequence[Sample]) -> Iterator[Metric]:
    by_metric: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_metric[sample.metric].append(sample)
    for metric, values in sorted(by_metric.items()):
        names = sorted({name for sample in values for name in sample.labels})
        family = GaugeMetricFamily(
            f"{PREFIX}{metric}", f"{metric.replace('_', ' ').capitalize()}.", labels=names
        )
        for sample in values:
            family.add_metric([sample.labels.get(name, "") for name in names], sample.value)
        yield family
