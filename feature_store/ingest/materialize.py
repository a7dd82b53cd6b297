"""From the offline store to the online one: the newest row of each entity that a run touched."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from feature_store.offline.newest_rows import events_before, keys_among, newest_rows
from feature_store.offline_store import OfflineStore
from feature_store.online_store import OnlineStore

KEYS_AT_ONCE = 50_000
"""Entities named in one query."""


def materialize(
    offline: OfflineStore, online: OnlineStore, keys: NDArray[np.int64], now: datetime
) -> int:
    """Write the newest stored row of each entity ``(k,)`` online; return how many were newer there.

    Rows whose event has not passed at ``now``, which somebody else may have stored, are left out.

    The online row is read back and not taken from the run: so it is the stored one to the bit,
    with its times, even if others wrote meanwhile or an earlier run was cut off.

    Raises
    ------
    StoreUnavailable
        If a store does not answer; written rows stay, and publishing again completes them.
    """
    version = offline.versions.find(online.schema.view, online.schema.definition_fingerprint)
    written = 0
    for start in range(0, len(keys), KEYS_AT_ONCE):
        named = keys[start : start + KEYS_AT_ONCE]
        where = [keys_among(version.entity, named), events_before(now)]
        for rows in newest_rows(offline.postgres, version, where):
            written += online.write(rows.matrix, rows.created)
    return written
