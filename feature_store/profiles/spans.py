"""Spans of time in which rows of users may follow from changes anew."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_store.offline.binary_copy import FOREVER
from feature_store.offline.newest_rows import as_array

LONG_AGO = np.datetime64(np.iinfo(np.int64).min + 1, "us")

ASKED = (
    "unnest(%(places)s::bigint[], %(keys)s::bigint[], %(since)s::timestamptz[], "
    "%(until)s::timestamptz[]) AS asked (asked_place, key, since, until)"
)


@dataclass(frozen=True)
class Spans:
    """For each of some users the time in which rows may follow from changes anew.

    Parameters
    ----------
    keys
        int64 ``(n,)``, each user once.
    since, until
        datetime64[us] ``(n,)``; `LONG_AGO` and `FOREVER` stand for all. Of a span in which
        changes lie, both ends belong to it; of one that reaches to a full row, the end does not.
    """

    keys: NDArray[np.int64]
    since: NDArray[np.datetime64]
    until: NDArray[np.datetime64]

    def __len__(self) -> int:
        return len(self.keys)

    def part(self, which: slice | NDArray[Any]) -> Spans:
        """Return the chosen ones."""
        return Spans(self.keys[which], self.since[which], self.until[which])

    @property
    def are_open(self) -> NDArray[np.bool_]:
        """Which spans have no end."""
        return np.equal(self.until, FOREVER)

    @property
    def parameters(self) -> dict[str, Any]:
        """What `ASKED` takes: arrays as PostgreSQL writes them, since lists are slow to convert."""
        return {
            "places": _as_array(map(str, range(len(self)))),
            "keys": as_array(self.keys),
            "since": _as_array(_as_texts(self.since)),
            "until": _as_array(_as_texts(self.until)),
        }


def spans_over(keys: NDArray[np.int64], times: NDArray[np.datetime64]) -> Spans:
    """From the first to the last of some times ``(n,)``, for each user."""
    order = np.lexsort((times, keys))
    keys, times = keys[order], times[order]
    first = np.ones(len(keys), dtype=bool)
    first[1:] = keys[1:] != keys[:-1]
    return Spans(keys[first], times[first], times[np.roll(first, -1)])


def all_of(users: NDArray[np.int64]) -> Spans:
    """All time of some users."""
    return Spans(users, np.full(len(users), LONG_AGO), np.full(len(users), FOREVER))


def _as_array(texts: Iterable[str]) -> str:
    """An array as PostgreSQL reads it, of texts that need no quotes."""
    return "{" + ",".join(texts) + "}"


def _as_texts(times: NDArray[np.datetime64]) -> list[str]:
    texts: list[str] = np.char.add(np.datetime_as_string(times, unit="us"), "+00").tolist()
    for place in np.flatnonzero(times == FOREVER).tolist():
        texts[place] = "infinity"
    for place in np.flatnonzero(times == LONG_AGO).tolist():
        texts[place] = "-infinity"
    return texts
