"""What a person wants to know of a finished batch: how many, how sure, how many say yes."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.batch.manifest import Totals

WIDTH = 40
LINES = 10


def histogram(counts: Sequence[int]) -> list[str]:
    """Rows by probability as lines of a bar chart.

    Examples
    --------
    >>> for line in histogram([4, 0, 0, 0, 0, 0, 0, 0, 2, 1])[-2:]:
    ...     print(line)
    0.8–0.9 ████████████████████ 2
    0.9–1.0 ██████████ 1
    """
    each = len(counts) // LINES
    sums = [sum(counts[place : place + each]) for place in range(0, len(counts), each)]
    most = max(*sums, 1)
    return [
        f"{place / LINES:.1f}–{(place + 1) / LINES:.1f} {'█' * round(WIDTH * n / most)} {n:,}"
        for place, n in enumerate(sums)
    ]


def summary(totals: Totals, texts: tuple[str, str], threshold: float) -> list[str]:
    """The summary as lines."""
    share = totals.positive / totals.rows
    lines = [f"{totals.positive:,} ({share:.1%}) are {texts[1]}: from {threshold:.3f} on"]
    if totals.without_features:
        lines.append(
            f"{totals.without_features:,} had no stored features: their 'feature_event_time' is "
            "null, and all features are missing"
        )
    return [*lines, "rows by probability", *histogram(totals.histogram)]
