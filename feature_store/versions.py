"""A version's life across both stores: filled beside the others, switched to, dropped.

::

    start_fill(offline, online, view)      # it is not current yet, not even when it is the first
    offline.append(…); online.write(…)     # as often as need be; killed half-way: run again
    switch(offline, online, 0.01)          # now it is the current one
"""

from __future__ import annotations

from feature_store.errors import VersionIncomplete
from feature_store.offline.versions import ViewVersion, fill_command
from feature_store.offline_store import OfflineStore
from feature_store.online_store import OnlineStore, translated


def start_fill(offline: OfflineStore, online: OnlineStore, entity: str) -> None:
    """Register the version that ``online`` writes in both stores; known ones stay as they are."""
    offline.versions.register(online.schema, entity, is_filling=True)
    with translated("write"):
        online.versions.register(is_filling=True)


def switch(offline: OfflineStore, online: OnlineStore, max_missing_share: float) -> ViewVersion:
    """Make the version that ``online`` writes the current one.

    Redis comes first, PostgreSQL decides: killed in between, the old version stays current, and
    running again completes the switch.

    Raises
    ------
    VersionIncomplete
        If more than this share of the current version's entities have no row in it.
    """
    version = offline.versions.find(online.schema.view, online.schema.definition_fingerprint)
    if version.schema.is_windowed:
        missing, known = _uncovered_online(offline, online, version)
    else:
        missing, known = offline.versions.uncovered(version)
    if missing > max_missing_share * known:
        raise VersionIncomplete(
            f"Version {version.fingerprint} of '{version.view}' lacks {missing:,} of the {known:,} "
            f"entities of the current version; {max_missing_share:.1%} may be missing. "
            f"Complete it: {fill_command(online.schema)}"
        )
    with translated("write"):
        online.versions.switch()
    return offline.versions.switch(version.view, version.fingerprint)


def drop(offline: OfflineStore, online: OnlineStore) -> int:
    """Delete the version that ``online`` reads from both stores; return its online rows.

    Raises
    ------
    VersionInUse
        If it is the current one, or somebody said that it reads it.
    """
    version = offline.versions.find(online.schema.view, online.schema.definition_fingerprint)
    offline.versions.drop(version)
    return online.delete()


def _uncovered_online(
    offline: OfflineStore, online: OnlineStore, version: ViewVersion
) -> tuple[int, int]:
    """How many users have events and no online row: all versions share the events offline."""
    users = f"SELECT count(DISTINCT {version.entity}) FROM {version.table}"
    with offline.postgres.transaction() as connection:
        row = connection.execute(users).fetchone()
    known = int(row[0]) if row else 0
    return max(0, known - online.count()), known
