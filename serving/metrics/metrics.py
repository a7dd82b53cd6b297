"""What Prometheus sees of the API: of this worker, and of all others of its host."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from serving.metrics.tallies import Cells, Counts, LabelledHistogram, add_up
from serving.prediction.in_flight import Answer

LATENCY_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
SCORE_BUCKETS = tuple(tenth / 10 for tenth in range(1, 11))
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
AGE_BUCKETS_S = (60.0, HOUR_S, 6 * HOUR_S, DAY_S, 7 * DAY_S, 30 * DAY_S, 365 * DAY_S, 1461 * DAY_S)

Across = Callable[[Iterable[float]], float]


class _Gauge(NamedTuple):
    meaning: str
    value: Callable[[], float]
    across: Across


@dataclass(frozen=True)
class Snapshot:
    """The numbers of one worker at some time: metric to cells, and gauges."""

    tallies: dict[str, Cells] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)


class Metrics:
    """All counts, histograms and gauges; use it from one thread, that of the event loop."""

    def __init__(self) -> None:
        self.requests = Counts(
            "fti_http_requests", "Requests by path and status.", ("path", "status")
        )
        self.durations = LabelledHistogram(
            "fti_http_request_seconds",
            "From the parsed head of a request to its answer.",
            ("path",),
            LATENCY_BUCKETS_S,
        )
        self.refused = Counts(
            "fti_http_requests_refused",
            "Requests refused before they were looked at, by reason.",
            ("reason",),
        )
        arm = ("arm", "model_version")
        self.latency = LabelledHistogram(
            "fti_prediction_seconds",
            "From the parsed request to the answer.",
            arm,
            LATENCY_BUCKETS_S,
        )
        self.scores = LabelledHistogram(
            "fti_prediction_probability", "Probability of class 1.", arm, SCORE_BUCKETS
        )
        self.ages = LabelledHistogram(
            "fti_feature_age_seconds",
            "Age of the event that the stored features of an answer come from.",
            (),
            AGE_BUCKETS_S,
        )
        self.degraded = Counts(
            "fti_predictions_degraded",
            "Answers that are worse than they should be, by reason.",
            ("reason",),
        )
        self.missing = Counts(
            "fti_predictions_missing_attributes",
            "Raw attributes that were missing, summed over answers.",
        )
        self.unseen = Counts(
            "fti_predictions_unseen_attributes",
            "Answers to a word that nobody defined, by attribute.",
            ("attribute",),
        )
        self.batch_rows = Counts(
            "fti_batch_predictions",
            "Rows of batches, by arm and version; those that could not be answered have none.",
            arm,
        )
        self.batch_degraded = Counts(
            "fti_batch_predictions_degraded",
            "Answers to rows of batches that are worse than they should be, by reason.",
            ("reason",),
        )
        self.batch_missing = Counts(
            "fti_batch_predictions_missing_attributes",
            "Raw attributes that were missing, summed over rows of batches.",
        )
        self.batch_unseen = Counts(
            "fti_batch_predictions_unseen_attributes",
            "Rows of batches with a word that nobody defined, by attribute.",
            ("attribute",),
        )
        self._ages: deque[float] = deque()
        self._batches = threading.Lock()
        self._gauges: dict[str, _Gauge] = {}
        self._answered: dict[tuple[str, int], tuple[list[float], list[float]]] = {}

    @property
    def tallies(self) -> list[Counts | LabelledHistogram]:
        """All that is counted."""
        return [
            each for each in vars(self).values() if isinstance(each, Counts | LabelledHistogram)
        ]

    def count(self, path: str, status: int, duration_s: float) -> None:
        """Count one answer."""
        cells = self._answered.get((path, status))
        if cells is None:
            labels = path, str(status)
            cells = self.requests.cell(labels), self.durations.cell(labels[:1])
            self._answered[path, status] = cells
        answers, durations = cells
        answers[0] += 1
        self.durations.put(durations, duration_s)

    def refuse(self, reason: str) -> None:
        """Count one request that was not let in."""
        self.refused.add((reason,))

    def age(self, age_s: float) -> None:
        """Note how old the stored features of an answer are; counted at the next snapshot."""
        self._ages.append(age_s)

    def observe(self, answer: Answer) -> None:
        """Note one prediction."""
        labels = answer.arm, answer.model_version
        self.latency.observe(labels, answer.latency_ms / 1000)
        self.scores.observe(labels, answer.probability)
        if answer.missing:
            self.missing.add((), len(answer.missing))
        for attribute in answer.unseen:
            self.unseen.add((attribute,))
        for reason in answer.degraded_reasons:
            self.degraded.add((reason,))

    def observe_batch(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Note the answers to a batch; this may be called from any thread."""
        arms = Counter((row.get("arm", ""), row.get("model_version", "")) for row in rows)
        reasons = Counter(reason for row in rows for reason in row.get("degraded_reasons", ()))
        unseen = Counter(name for row in rows for name in row.get("unseen", ()))
        missing = sum(len(row.get("missing", ())) for row in rows)
        with self._batches:
            for labels, n in arms.items():
                self.batch_rows.add(labels, n)
            if missing:
                self.batch_missing.add((), missing)
            for attribute, n in unseen.items():
                self.batch_unseen.add((attribute,), n)
            for reason, n in reasons.items():
                self.batch_degraded.add((reason,), n)

    def add_gauge(
        self, name: str, meaning: str, value: Callable[[], float], across: Across = min
    ) -> None:
        """Add a value that is read at each snapshot.

        Parameters
        ----------
        across
            How the values of several workers make one.
        """
        self._gauges[name] = _Gauge(meaning, value, across)

    def snapshot(self) -> Snapshot:
        """Give the metrics of this worker."""
        with suppress(IndexError):  # until there are no more; another thread may look, too
            while True:
                self.ages.observe((), self._ages.popleft())
        return Snapshot(
            {each.name: each.cells.copy() for each in self.tallies},
            {name: float(each.value()) for name, each in self._gauges.items()},
        )

    def text(self, workers: Iterable[Snapshot]) -> bytes:
        """Give the numbers of several workers in Prometheus's text format."""
        registry = CollectorRegistry()
        registry.register(_Collector(self._families(list(workers))))
        return generate_latest(registry)

    def _families(self, workers: list[Snapshot]) -> Iterator[Metric]:
        for tally in self.tallies:
            yield tally.family(add_up(each.tallies.get(tally.name, {}) for each in workers))
        for name, gauge in self._gauges.items():
            values = [each.gauges[name] for each in workers if name in each.gauges]
            yield GaugeMetricFamily(name, gauge.meaning, gauge.across(values))


class _Collector:
    """Gives metrics that are there already."""

    def __init__(self, families: Iterator[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families

    def describe(self) -> list[Metric]:
        return []
