"""Counts and histograms as plain numbers: an observation costs a fraction of a microsecond.

Only the event loop writes them, so nothing is locked. Those of several workers are added up.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

Labels = tuple[str, ...]
Cells = dict[Labels, list[float]]
"""For each combination of labels: one number, or those of the buckets and then the sum."""


class Counts:
    """A counter for each combination of labels.

    Examples
    --------
    >>> answers = Counts("answers", "Answers by status.", ("status",))
    >>> answers.add(("200",)), answers.add(("200",), 2)
    (None, None)
    >>> answers.cells
    {('200',): [3.0]}
    """

    def __init__(self, name: str, meaning: str, labels: Labels = ()) -> None:
        self.name = name
        self.meaning = meaning
        self.labels = labels
        self.cells: Cells = {}

    def add(self, labels: Labels, n: float = 1) -> None:
        """Count n more."""
        self.cell(labels)[0] += n

    def cell(self, labels: Labels) -> list[float]:
        """The one number of a combination: who adds to it often may keep it."""
        cell = self.cells.get(labels)
        if cell is None:
            cell = self.cells[labels] = [0.0]
        return cell

    def family(self, cells: Cells) -> Metric:
        """Show cells as Prometheus does."""
        family = CounterMetricFamily(self.name, self.meaning, labels=self.labels)
        for labels, (value,) in sorted(cells.items()):
            family.add_metric(labels, value)
        return family


class LabelledHistogram:
    """A histogram for each combination of labels.

    Parameters
    ----------
    bounds
        Upper bounds of the buckets, inclusive and ascending; one more takes what lies above.

    Examples
    --------
    >>> latency = LabelledHistogram("latency", "In seconds.", (), bounds=(0.1, 1.0))
    >>> [latency.observe((), value) for value in (0.1, 0.5, 3.0)]
    [None, None, None]
    >>> latency.cells
    {(): [1.0, 1.0, 1.0, 3.6]}
    """

    def __init__(self, name: str, meaning: str, labels: Labels, bounds: Sequence[float]) -> None:
        self.name = name
        self.meaning = meaning
        self.labels = labels
        self.bounds = tuple(bounds)
        self.cells: Cells = {}

    def observe(self, labels: Labels, value: float) -> None:
        """Note one value."""
        self.put(self.cell(labels), value)

    def cell(self, labels: Labels) -> list[float]:
        """The numbers of a combination: who adds to them often may keep them."""
        cell = self.cells.get(labels)
        if cell is None:
            cell = self.cells[labels] = [0.0] * (len(self.bounds) + 2)
        return cell

    def put(self, cell: list[float], value: float) -> None:
        """Note one value in a cell of this histogram."""
        cell[bisect_left(self.bounds, value)] += 1
        cell[-1] += value

    def family(self, cells: Cells) -> Metric:
        """Show cells as Prometheus does."""
        family = HistogramMetricFamily(self.name, self.meaning, labels=self.labels)
        names = [*map(str, self.bounds), "+Inf"]
        for labels, cell in sorted(cells.items()):
            so_far, buckets = 0.0, []
            for name, count in zip(names, cell[:-1], strict=True):
                so_far += count
                buckets.append((name, so_far))
            family.add_metric(labels, buckets, sum_value=cell[-1])
        return family


def add_up(parts: Iterable[Cells]) -> Cells:
    """Add up the cells of several workers.

    Examples
    --------
    >>> add_up([{("a",): [1.0]}, {("a",): [2.0], ("b",): [5.0]}])
    {('a',): [3.0], ('b',): [5.0]}
    """
    total: Cells = {}
    for cells in parts:
        for labels, cell in cells.items():
            known = total.get(labels)
            if known is None or len(known) != len(cell):
                total[labels] = list(cell)
            else:
                total[labels] = [one + other for one, other in zip(known, cell, strict=True)]
    return total
