"""The state of users out of full rows and changes: attribute by attribute the newest event wins.

The rows that follow from changes are a pure function of the full rows and the changes: the state
after a change is the newest full row at or before it, with every change since then on top.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_store.definitions.engine import Engine
from feature_store.definitions.exact import moments
from feature_store.profiles.exact_changes import exact_patches, rounded

FULL_ROW, CHANGE = 0, 1
"""Of things at the same time a change lies on top of the full row."""


@dataclass(frozen=True)
class RawRows:
    """Stored rows of some users, raw columns only.

    Parameters
    ----------
    places
        int64 ``(n,)``: which of the users.
    times
        datetime64[us] ``(n,)``, event times.
    values
        float32 ``(n, r)``: numbers and codes.
    exact
        Objects ``(n, k)``: values of the exact columns; None where the view has none.
    """

    places: NDArray[np.int64]
    times: NDArray[np.datetime64]
    values: NDArray[np.float32]
    exact: NDArray[np.object_] | None = None

    def rows(self, which: NDArray[Any]) -> RawRows:
        """Return the chosen rows (an index array or a mask)."""
        exact = None if self.exact is None else self.exact[which]
        return RawRows(self.places[which], self.times[which], self.values[which], exact)


@dataclass(frozen=True)
class Changes:
    """Changes of some users.

    Parameters
    ----------
    places, times
        int64 and datetime64[us] ``(n,)``: which of the users, and when.
    event_ids
        Of two changes at the same time the larger one wins.
    attributes
        What each one sets.
    """

    places: NDArray[np.int64]
    times: NDArray[np.datetime64]
    event_ids: Sequence[str]
    attributes: Sequence[Mapping[str, Any]]

    def __len__(self) -> int:
        return len(self.event_ids)


def fold(engine: Engine, full: RawRows, changes: Changes) -> RawRows:
    """The raw columns after the changes: one row for each user and time of a change.

    Parameters
    ----------
    full
        What the changes are laid on. A user without a row before a change starts from nothing.

    Returns
    -------
    Rows by user and time.
    """
    columns = engine.schema.exact
    values, are_set = engine.patches(rounded(columns, changes.attributes))
    users = np.unique(changes.places)
    places = np.concatenate([users, full.places, changes.places])
    long_ago = np.full(len(users), np.iinfo(np.int64).min + 1).astype("datetime64[us]")
    times = np.concatenate([long_ago, full.times, changes.times])
    kinds = np.repeat([FULL_ROW, CHANGE], [len(users) + len(full.places), len(changes)])
    ranks = np.concatenate([np.zeros(len(kinds) - len(changes), np.int64), _ranks(changes)])
    order = np.lexsort((ranks, kinds, times, places))
    nothing = np.tile(engine.missing_raw, (len(users), 1))
    states = _carried(np.concatenate([nothing, full.values, values]), are_set, order)
    places, times = places[order], times[order]
    kept = (kinds[order] == CHANGE) & is_last_of_each(places, times)
    if full.exact is None:
        return RawRows(places[kept], times[kept], states[kept])
    digits, are_set = exact_patches(columns, changes.attributes)
    nothing = np.full((len(users), len(columns)), None, dtype=object)
    exact = _carried(np.concatenate([nothing, full.exact, digits]), are_set, order)
    return RawRows(places[kept], times[kept], states[kept], exact[kept])


def _carried(
    stacked: NDArray[Any], are_set: NDArray[np.bool_], order: NDArray[np.int64]
) -> NDArray[Any]:
    """The columns ``(n, r)`` after each item, in an order by user; the last items are changes.

    For every item and column, what the last item up to it that set the column has set. The first
    item of a user sets all, so nothing leaks from one user into the next.
    """
    sets = np.ones(stacked.shape, dtype=bool)
    sets[len(stacked) - len(are_set) :] = are_set
    setters = np.where(sets[order], np.arange(len(order))[:, np.newaxis], 0)
    np.maximum.accumulate(setters, axis=0, out=setters)
    return np.take_along_axis(stacked[order], setters, axis=0)


def vectors(engine: Engine, rows: RawRows) -> NDArray[np.float32]:
    """Compute all features ``(n, p)`` of folded rows."""
    columns: dict[str, NDArray[Any]] = {
        f.name: rows.values[:, place] for place, f in enumerate(engine.raw)
    }
    if rows.exact is not None:
        for name in engine.view.timestamps:
            place = engine.schema.exact_positions[name]
            columns[name] = moments(rows.exact[:, place].tolist())
    return engine.table(columns)


def newest_stored(
    wanted: RawRows, stored: RawRows, created: NDArray[np.datetime64]
) -> NDArray[np.int64]:
    """Index of the stored row of the same user and time that was created last, -1 for none.

    Parameters
    ----------
    wanted
        One row a user and time, ``(n,)``.
    stored, created
        Any rows ``(m,)``, and when the store learned them.

    Returns
    -------
    int64 ``(n,)``.
    """
    places = np.concatenate([stored.places, wanted.places])
    times = np.concatenate([stored.times, wanted.times])
    is_wanted = np.repeat([False, True], [len(created), len(wanted.places)])
    learned = np.concatenate([created, wanted.times])
    # What is wanted sorts behind the stored rows of its kind: the one before it is the newest.
    order = np.lexsort((learned, is_wanted, times, places))
    follows = np.append(False, ~is_last_of_each(places[order], times[order])[:-1])[: len(order)]
    newest = np.empty(len(order), dtype=np.int64)
    newest[order] = np.where(follows, np.roll(order, 1), -1)
    return newest[len(created) :]


def _ranks(changes: Changes) -> NDArray[np.int64]:
    ranks = np.empty(len(changes), dtype=np.int64)
    ranks[sorted(range(len(changes)), key=changes.event_ids.__getitem__)] = np.arange(len(changes))
    return ranks


def is_last_of_each(places: NDArray[np.int64], times: NDArray[np.datetime64]) -> NDArray[np.bool_]:
    """Mask ``(n,)`` of sorted rows: which is the last of its user and time."""
    last = np.ones(len(places), dtype=bool)
    last[:-1] = (places[1:] != places[:-1]) | (times[1:] != times[:-1])
    return last
