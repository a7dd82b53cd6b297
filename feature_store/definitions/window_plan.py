"""What a windowed schema counts and adds up: its windows, the tiles of their tails, its totals.

::

    window of 7 days, hop of 1 day, read at t

     day 0  day 1  day 2  day 3  day 4  day 5  day 6  day 7
    |------|------|------|------|------|------|------|---t
    [####################################################)     as of t: 8 tiles at most
    floor(t - 7 days, 1 day)                             t     left-closed, right-open

The tail moves in hops, the head is exact, so a window is up to one hop longer than its name.
Everything is decided by the schema alone: a stored definition of a year ago is read by its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.schema import FeatureDefinition, FeatureSchema
from feature_store.errors import DefinitionError

MICROSECONDS = {"m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
Aggregate = Callable[..., NDArray[Any]]
Recipe = tuple[Aggregate, list[int], list[int], list[tuple[int, ...]]]
"""How to aggregate, which features, in which windows, out of which totals."""
ANY = "any"
"""Stands for events of every type."""


@dataclass(frozen=True)
class Total:
    """One whole number that is kept of each tile.

    Parameters
    ----------
    of
        ``events``, ``amounts`` (events that have an amount) or ``cents`` (their sum).
    event_type
        Of events of this type only, or ``any``.
    """

    of: str
    event_type: str

    @property
    def dtype(self) -> str:
        """How it is stored."""
        return "<i8" if self.of == "cents" else "<u4"


@dataclass(frozen=True)
class Window:
    """A span of time before the asked time; its tail moves in hops (both in microseconds)."""

    span_us: int
    hop_us: int

    def starts(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """First microsecond ``(n,)`` of the window at each time ``(n,)``."""
        return (times - self.span_us) // self.hop_us * self.hop_us


@dataclass(frozen=True)
class Tiling:
    """The tiles of one hop: those of the longest window that moves in it.

    Parameters
    ----------
    hop_us
        Length of a tile.
    count
        So many tiles are kept, the last one that of the newest event.
    first
        Place of the first one among the tiles of all hops.
    """

    hop_us: int
    count: int
    first: int


class ActivityPlan:
    """The windows and totals that a schema needs, and its values out of them.

    Parameters
    ----------
    schema
        A windowed schema, perhaps read back from a store.

    Raises
    ------
    DefinitionError
        If a window is no multiple of its hop, or the schema has several TTLs.
    """

    def __init__(self, schema: FeatureSchema) -> None:
        self.schema = schema
        self.windows = tuple(dict.fromkeys(_window(feature) for feature in schema.features))
        needed = [total for feature in schema.features for total in _totals(feature)]
        self.totals = tuple(dict.fromkeys(needed))
        self._recipes = self._grouped(schema)
        types = dict.fromkeys(total.event_type for total in self.totals)
        self.event_types = tuple(each for each in types if each != ANY)
        self.tilings = _tilings(self.windows)
        self.tiles = sum(tiling.count for tiling in self.tilings)
        self.spans = np.array([window.span_us for window in self.windows])
        self.hops = np.array([window.hop_us for window in self.windows])
        self.counts = np.array([self.tiling(window).count for window in self.windows])
        places = [np.arange(tiling.count) for tiling in self.tilings]
        hops = [np.full(tiling.count, tiling.hop_us) for tiling in self.tilings]
        self.tile_places = np.concatenate(places)
        self.is_of_window = np.concatenate(hops) == self.hops[:, np.newaxis]
        self.ttl_us = _only_ttl(schema)
        self.reach_us = max(self.ttl_us, *(w.span_us + w.hop_us for w in self.windows))

    @property
    def ttl(self) -> timedelta:
        """Age of the newest event beyond which an entity reads as absent."""
        return timedelta(microseconds=self.ttl_us)

    @property
    def reach(self) -> timedelta:
        """No event that is older than this at the asked time matters."""
        return timedelta(microseconds=self.reach_us)

    def tiling(self, window: Window) -> Tiling:
        """The tiles that a window is added up from."""
        return next(tiling for tiling in self.tilings if tiling.hop_us == window.hop_us)

    def values(self, sums: NDArray[np.int64]) -> NDArray[np.float32]:
        """Features ``(n, p)`` out of the totals of each window ``(n, windows, totals)``.

        Whole numbers until here; divided in float64 and rounded once, so that the order and the
        grouping of the events cannot show.
        """
        values = np.empty((len(sums), len(self.schema)), dtype=np.float32)
        for aggregate, places, windows, totals in self._recipes:
            values[:, places] = aggregate(*(sums[:, windows, each] for each in totals))
        return values

    def _grouped(self, schema: FeatureSchema) -> list[Recipe]:
        """The features by aggregation: many at once are as quick as one."""
        recipes = []
        for name, aggregate in AGGREGATES.items():
            mine = [n for n, f in enumerate(schema.features) if f.rule["aggregation"] == name]
            if mine:
                features = [schema.features[place] for place in mine]
                windows = [self.windows.index(_window(feature)) for feature in features]
                totals = [[self.totals.index(t) for t in _totals(f)] for f in features]
                recipes.append((aggregate, mine, windows, list(zip(*totals, strict=True))))
        return recipes


def microseconds(span: str) -> int:
    """Length of a span such as ``1h`` or ``30d``.

    Examples
    --------
    >>> microseconds("1h"), timedelta(microseconds=microseconds("30d"))
    (3600000000, datetime.timedelta(days=30))
    """
    number, unit = span[:-1], span[-1:]
    if unit not in MICROSECONDS or not number.isdecimal() or int(number) == 0:
        raise DefinitionError(f"'{span}' is no span of time; write 30m, 1h or 7d.")
    return int(number) * MICROSECONDS[unit]


def _window(feature: FeatureDefinition) -> Window:
    span_us, hop_us = microseconds(feature.rule["window"]), microseconds(feature.rule["hop"])
    if span_us % hop_us:
        raise DefinitionError(
            f"Feature '{feature.name}' looks back {feature.rule['window']} in hops of "
            f"{feature.rule['hop']}; a window is a multiple of its hop."
        )
    return Window(span_us, hop_us)


def _only_ttl(schema: FeatureSchema) -> int:
    spans = sorted({feature.rule["ttl"] for feature in schema.features})
    if len(spans) != 1:
        raise DefinitionError(
            f"The features of '{schema.view}' expire after {', '.join(spans) or 'nothing'}; "
            "all of a view expire together."
        )
    return microseconds(spans[0])


def _totals(feature: FeatureDefinition) -> Sequence[Total]:
    event_type = feature.rule["event_type"]
    kinds = {"count": ["events"], "sum": ["cents"], "mean": ["cents", "amounts"]}
    return [Total(of, event_type) for of in kinds[feature.rule["aggregation"]]]


def _tilings(windows: Sequence[Window]) -> tuple[Tiling, ...]:
    tilings: list[Tiling] = []
    for hop_us in dict.fromkeys(window.hop_us for window in windows):
        longest = max(window.span_us for window in windows if window.hop_us == hop_us)
        first = sum(tiling.count for tiling in tilings)
        # One more than the hops of the window: its first and its last tile are both cut.
        tilings.append(Tiling(hop_us, longest // hop_us + 1, first))
    return tuple(tilings)


def _count(events: NDArray[np.int64]) -> NDArray[np.int64]:
    return events


def _sum(cents: NDArray[np.int64]) -> NDArray[np.float64]:
    return cents / 100.0


def _mean(cents: NDArray[np.int64], amounts: NDArray[np.int64]) -> NDArray[np.float64]:
    mean = np.full(cents.shape, np.nan)
    some = amounts > 0
    mean[some] = cents[some] / amounts[some] / 100.0
    return mean


AGGREGATES: Mapping[str, Aggregate] = {"count": _count, "sum": _sum, "mean": _mean}
"""From totals of windows, each ``(n, features)``, to the features ``(n, features)``."""
