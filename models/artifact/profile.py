"""Profiles of rows: a histogram of every feature, to which further rows can be added.

The profile of the training rows travels with a model, as ``profile.json`` in its artifact. What
comes later is counted into the very same bins, block by block, so that windows can be merged and
compared without any row of the training data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.schema import FIRST_KNOWN, MISSING, UNSEEN, FeatureSchema

BINS = 64
"""Of a number with many values; a heavy value has a bin of its own beside these."""
MOST_EXACT = 2 * BINS
"""A number with no more different values has a bin for each of them."""

SHARES = np.unique(np.append(np.linspace(0, 1, BINS + 1)[1:-1], [0.001, 0.005, 0.995, 0.999]))
"""Where the bins of many values end: the tails, in which little lies far apart, in more steps."""

Counts = NDArray[np.int64]
Edges = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Histogram:
    """The values of one column, counted.

    Parameters
    ----------
    edges
        float64 ``(k - 1,)``: bin ``i`` holds ``edges[i - 1] <= value < edges[i]``. Empty for a
        category, whose bins are the words of its vocabulary.
    counts
        int64 ``(k,)``.
    missing, unseen
        Values that are absent, and words that are not in the vocabulary.
    total, squares, low, high
        Sum, sum of squares, least and largest of the numbers.
    is_exact
        Whether every bin but the outer ones was one value when the edges were chosen.
    """

    name: str
    is_category: bool
    edges: Edges
    counts: Counts
    missing: int = 0
    unseen: int = 0
    total: float = 0.0
    squares: float = 0.0
    low: float = np.inf
    high: float = -np.inf
    is_exact: bool = False

    @property
    def present(self) -> int:
        """How many values are neither missing nor unseen."""
        return int(self.counts.sum())

    @property
    def n(self) -> int:
        """How many rows were counted."""
        return self.present + self.missing + self.unseen

    @property
    def mean(self) -> float:
        """Of the numbers; NaN where there are none."""
        return self.total / self.present if self.present else float("nan")

    @property
    def deviation(self) -> float:
        """Standard deviation of the numbers; NaN where there are none."""
        if not self.present:
            return float("nan")
        return float(np.sqrt(max(self.squares / self.present - self.mean * self.mean, 0.0)))

    def merged(self, other: Histogram) -> Histogram:
        """Both together; the bins must be the same."""
        return replace(
            self,
            counts=self.counts + other.counts,
            missing=self.missing + other.missing,
            unseen=self.unseen + other.unseen,
            total=self.total + other.total,
            squares=self.squares + other.squares,
            low=min(self.low, other.low),
            high=max(self.high, other.high),
        )

    def counted(self, column: NDArray[np.floating[Any]]) -> Histogram:
        """The same bins with the values of another column ``(n,)``."""
        if self.is_category:
            codes = np.bincount(column.astype(np.int64), minlength=FIRST_KNOWN + len(self.counts))
            known = codes[FIRST_KNOWN : FIRST_KNOWN + len(self.counts)]
            unseen = int(codes[UNSEEN] + codes[FIRST_KNOWN + len(self.counts) :].sum())
            return Histogram(
                self.name, True, self.edges, known, missing=int(codes[MISSING]), unseen=unseen
            )
        wide = column.astype(np.float64)
        values = wide[~np.isnan(wide)]
        places = np.searchsorted(self.edges, values, side="right")
        return replace(
            self,
            counts=np.bincount(places, minlength=len(self.edges) + 1),
            missing=len(column) - len(values),
            total=float(values.sum()),
            squares=float(np.square(values).sum()),
            low=float(values.min(initial=np.inf)),
            high=float(values.max(initial=-np.inf)),
        )

    def to_json(self) -> dict[str, Any]:
        """Give the histogram as JSON values."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        ends = {"low": self.low, "high": self.high} if self.low <= self.high else {}
        arrays = {"edges": self.edges.tolist(), "counts": self.counts.tolist()}
        return (
            {name: v for name, v in values.items() if name not in ("low", "high")} | arrays | ends
        )

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Histogram:
        """Read what `to_json` gave."""
        arrays = {
            "edges": np.array(stored["edges"], dtype=np.float64),
            "counts": np.array(stored["counts"], dtype=np.int64),
        }
        return cls(**(dict(stored) | arrays))


def numbers(name: str, column: NDArray[np.floating[Any]]) -> Histogram:
    """Choose bins for a column ``(n,)`` of numbers, NaN for missing, and count it.

    Few different values have a bin each. Of many, those that fill a bin by themselves have it
    alone, and the others share the rest evenly, but for narrower bins at the ends. The first and
    the last bin are for values outside the range of these.

    Examples
    --------
    >>> of_ages = numbers("age", np.array([20.0, 30.0, 30.0, np.nan]))
    >>> of_ages.counts.tolist(), of_ages.missing
    ([0, 1, 2, 0], 1)
    >>> of_ages.counted(np.array([19.0, 25.0, 31.0])).counts.tolist()
    [1, 1, 0, 1]
    """
    values = column[~np.isnan(column)].astype(np.float64)
    distinct, n = np.unique(values, return_counts=True)
    is_exact = len(distinct) <= MOST_EXACT
    if is_exact:
        edges = distinct
    else:
        heavy = distinct[n > len(values) / BINS]
        rest = values[~np.isin(values, heavy)]
        inner = np.quantile(rest, SHARES) if len(rest) else rest
        edges = np.unique(np.concatenate([heavy, np.nextafter(heavy, np.inf), inner]))
    if len(values):
        edges = np.unique(np.append(edges, [distinct[0], np.nextafter(distinct[-1], np.inf)]))
    empty = Histogram(name, False, edges, np.zeros(len(edges) + 1, np.int64), is_exact=is_exact)
    return empty.counted(column)


@dataclass(frozen=True)
class Profile:
    """The histograms of all features of some rows."""

    columns: tuple[Histogram, ...]

    @property
    def n(self) -> int:
        """How many rows were counted."""
        return self.columns[0].n if self.columns else 0

    @classmethod
    def of(cls, values: NDArray[np.float32], schema: FeatureSchema) -> Profile:
        """Choose bins for rows ``(n, p)`` and count them."""
        columns = np.ascontiguousarray(values.T)
        return cls(
            tuple(
                Histogram(f.name, True, np.zeros(0), np.zeros(len(f.categories), np.int64)).counted(
                    column
                )
                if f.kind == "category"
                else numbers(f.name, column)
                for f, column in zip(schema.features, columns, strict=True)
            )
        )

    def counted(self, values: NDArray[np.float32]) -> Profile:
        """The same bins with other rows ``(n, p)``."""
        columns = zip(self.columns, np.ascontiguousarray(values.T), strict=True)
        return Profile(tuple(histogram.counted(column) for histogram, column in columns))

    def merged(self, other: Profile) -> Profile:
        """Both together; the bins must be the same."""
        pairs = zip(self.columns, other.columns, strict=True)
        return Profile(tuple(one.merged(two) for one, two in pairs))


@dataclass(frozen=True)
class ReferenceProfile:
    """What a model's later work is compared with.

    Parameters
    ----------
    features
        Of the rows that it was trained on, complete.
    scores
        Of its probabilities for rows that it had not seen.
    positives, labels
        How many of all labels were 1, and how many there were.
    importance
        Feature to its share in what the model learned; they sum to 1.
    """

    features: Profile
    scores: Histogram
    positives: int
    labels: int
    importance: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Give the profile as the JSON values of ``profile.json``."""
        return {
            "features": [column.to_json() for column in self.features.columns],
            "scores": self.scores.to_json(),
            "positives": self.positives,
            "labels": self.labels,
            "importance": dict(self.importance),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> ReferenceProfile:
        """Read what `to_json` gave."""
        columns = tuple(Histogram.from_json(column) for column in stored["features"])
        return cls(
            Profile(columns),
            Histogram.from_json(stored["scores"]),
            stored["positives"],
            stored["labels"],
            stored["importance"],
        )


def reference_profile(
    values: NDArray[np.float32],
    schema: FeatureSchema,
    scores: NDArray[np.float32],
    labels: Sequence[NDArray[np.int8]],
    importance: Mapping[str, float],
) -> ReferenceProfile:
    """Describe a training: its rows ``(n, p)``, scores of unseen rows, and labels by part."""
    return ReferenceProfile(
        Profile.of(values, schema),
        numbers("probability", scores),
        sum(int(part.sum()) for part in labels),
        sum(len(part) for part in labels),
        importance,
    )
