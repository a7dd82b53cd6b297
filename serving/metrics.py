"""What Prometheus sees of the API."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serving.predictor import Answer

LATENCY_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
SCORE_BUCKETS = tuple(tenth / 10 for tenth in range(1, 11))


class Metrics:
    """The API's own registry of metrics: two apps in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "fti_http_requests",
            "Requests by path and status.",
            ("path", "status"),
            registry=self.registry,
        )
        self.latency = Histogram(
            "fti_prediction_seconds",
            "From the parsed request to the answer.",
            ("arm", "model_version"),
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.scores = Histogram(
            "fti_prediction_probability",
            "Probability of class 1.",
            ("arm", "model_version"),
            buckets=SCORE_BUCKETS,
            registry=self.registry,
        )
        self.degraded = Counter(
            "fti_predictions_degraded",
            "Answers that are worse than they should be, by reason.",
            ("reason",),
            registry=self.registry,
        )
        self.missing = Counter(
            "fti_predictions_missing_attributes",
            "Raw attributes that were missing or unseen, summed over answers.",
            registry=self.registry,
        )

        self._by_path: dict[tuple[str, int], Counter] = {}
        self._by_arm: dict[tuple[str, str], tuple[Histogram, Histogram]] = {}

    def count(self, path: str, status: int) -> None:
        """Count one answer."""
        counter = self._by_path.get((path, status))
        if counter is None:
            counter = self._by_path[path, status] = self.requests.labels(path, status)
        counter.inc()

    def observe(self, answer: Answer) -> None:
        """Note one prediction."""
        key = answer.arm, answer.model_version
        histograms = self._by_arm.get(key)
        if histograms is None:
            histograms = self.latency.labels(*key), self.scores.labels(*key)
            self._by_arm[key] = histograms
        latency, scores = histograms
        latency.observe(answer.latency_ms / 1000)
        scores.observe(answer.probability)
        if answer.missing:
            self.missing.inc(len(answer.missing))
        for reason in answer.degraded_reasons:
            self.degraded.labels(reason).inc()

    def watch(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """Show a value that is asked for whenever somebody looks."""
        Gauge(name, meaning, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """Give all metrics in Prometheus's text format."""
        return generate_latest(self.registry)
