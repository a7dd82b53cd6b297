"""What Prometheus sees of the API."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from serving.pending import Answer
from serving.tallies import Counts, Spreads

LATENCY_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
SCORE_BUCKETS = tuple(tenth / 10 for tenth in range(1, 11))


class Metrics:
    """The API's own registry of metrics: two apps in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counts(
            "fti_http_requests", "Requests by path and status.", ("path", "status"), self.registry
        )
        self.latency = Spreads(
            "fti_prediction_seconds",
            "From the parsed request to the answer.",
            ("arm", "model_version"),
            LATENCY_BUCKETS_S,
            self.registry,
        )
        self.scores = Spreads(
            "fti_prediction_probability",
            "Probability of class 1.",
            ("arm", "model_version"),
            SCORE_BUCKETS,
            self.registry,
        )
        self.degraded = Counts(
            "fti_predictions_degraded",
            "Answers that are worse than they should be, by reason.",
            ("reason",),
            self.registry,
        )
        self.missing = Counts(
            "fti_predictions_missing_attributes",
            "Raw attributes that were missing or unseen, summed over answers.",
            (),
            self.registry,
        )

    def count(self, path: str, status: int) -> None:
        """Count one answer."""
        self.requests.labels(path, str(status)).inc()

    def observe(self, answer: Answer) -> None:
        """Note one prediction."""
        key = answer.arm, answer.model_version
        self.latency.labels(*key).observe(answer.latency_ms / 1000)
        self.scores.labels(*key).observe(answer.probability)
        if answer.missing:
            self.missing.labels().inc(len(answer.missing))
        for reason in answer.degraded_reasons:
            self.degraded.labels(reason).inc()

    def watch(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """Show a value that is asked for whenever somebody looks."""
        Gauge(name, meaning, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """Give all metrics in Prometheus's text format."""
        return generate_latest(self.registry)
