"""``versions``, ``switch-version`` and ``drop-version``."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from configs.command_line import progress
from configs.output import Answer, Table
from configs.settings import Settings
from feature_store import connect, versions
from feature_store.command_line.names import view_named
from feature_store.definitions.schema_changes import schema_changes, summary
from feature_store.definitions.windowed_view import ActivityView, View
from feature_store.errors import FeatureStoreError
from feature_store.offline.newest_rows import newest_rows
from feature_store.offline.versions import FILL, ViewVersion
from feature_store.offline_store import OfflineStore
from feature_store.online_store import OnlineStore
from feature_store.windows.writer import ActivityWriter


def list_versions(view: str, settings: Settings) -> Answer:
    """The stored versions of a view, the newest first."""
    return versions_table(connect.offline_store(settings), view_named(view))


def versions_table(offline: OfflineStore, view: View) -> Answer:
    """What is stored of a view, and how it differs from what this code defines."""
    stored = offline.versions.versions(view.name)
    data = [_version(offline, view, version) for version in stored]
    columns = ("version", "state", "is_codes", "created", "switched", "read_by", "to_this_code")
    rows = [
        (
            *(each["fingerprint"], each["state"], each["is_defined_here"]),
            *(each["created_at"], each["switched_at"], ", ".join(each["read_by"]) or None),
            summary(each["changes_to_this_code"]) or None,
        )
        for each in data
    ]
    title = f"Versions of {view.name}" + ("" if rows else ": none is stored")
    headings = [name.replace("is_codes", "this_code").replace("_", " ") for name in columns]
    return Answer(data, [Table(title, headings, rows)])


def switch_version(
    view: str, fingerprint: str, settings: Settings, max_missing_share: float
) -> Answer:
    """Make a stored version the current one; Redis gets its newest rows first."""
    offline, online, version = _stores(view, fingerprint, settings)
    # What a killed fill left out of Redis is in PostgreSQL, or the switch is refused.
    fill_online(offline, online, version)
    now = versions.switch(offline, online, max_missing_share)
    data = {"view": now.view, "fingerprint": now.fingerprint, "switched_at": now.switched_at}
    line = f"✓ {now.fingerprint} is the current version of {now.view}"
    return Answer(data, [Table(line, (), [])])


def rebuild(view: str, start: datetime | None, end: datetime | None, settings: Settings) -> Answer:
    """Write the online rows of this code's version anew, out of PostgreSQL; then switch to it.

    With a range only those of users with events in it, of windowed views; nothing is switched.
    """
    defined, offline = view_named(view), connect.offline_store(settings)
    online = connect.online_store(settings, schema=defined.schema)
    whole = start is None and end is None
    if isinstance(defined, ActivityView):
        versions.start_fill(offline, online, defined.entity)
        written = _fill_from_events(offline, online, start, end)
    elif whole:
        written = fill_online(offline, online, offline.versions.readable(defined.schema))
    else:
        raise FeatureStoreError(
            f"'{view}' is rebuilt as a whole; for a range: {FILL} --mode backfill."
        )
    if whole:
        versions.switch(offline, online, 0)
    data = {"view": view, "fingerprint": defined.schema.fingerprint, "online_rows": written}
    line = f"✓ rebuilt {written:,} online rows of {view}, version {defined.schema.fingerprint}"
    return Answer(data, [Table(line, (), [])])


def fill_online(offline: OfflineStore, online: OnlineStore, version: ViewVersion) -> int:
    """Write every online row of a stored version; return of how many entities."""
    if version.schema.is_windowed:
        return _fill_from_events(offline, online, None, None)
    entities = 0
    for block in newest_rows(offline.postgres, version):
        online.write(block.matrix, block.created)
        entities += len(block)
    return entities


def _fill_from_events(
    offline: OfflineStore, online: OnlineStore, start: datetime | None, end: datetime | None
) -> int:
    writer = ActivityWriter(offline.postgres, online)
    with progress("rebuild", writer.count_users(start, end), " users") as advance:
        return writer.rebuild(start, end, advance)


def drop_version(view: str, fingerprint: str, settings: Settings) -> Answer:
    """Delete a version that is neither current nor read by a deployed model."""
    offline, online, version = _stores(view, fingerprint, settings)
    deleted = versions.drop(offline, online)
    data = {"view": version.view, "fingerprint": version.fingerprint, "online_rows": deleted}
    table = "" if version.schema.is_windowed else f"{version.table} and "
    line = f"✓ dropped {table}{deleted:,} online rows of {version.fingerprint}"
    return Answer(data, [Table(line, (), [])])


def _stores(
    view: str, fingerprint: str, settings: Settings
) -> tuple[OfflineStore, OnlineStore, ViewVersion]:
    offline = connect.offline_store(settings)
    version = offline.versions.find(view_named(view).name, fingerprint)
    return offline, connect.online_store(settings, schema=version.schema), version


def _version(offline: OfflineStore, view: View, version: ViewVersion) -> dict[str, Any]:
    return {
        "view": version.view,
        "fingerprint": version.fingerprint,
        "state": version.state,
        "is_defined_here": version.fingerprint == view.schema.fingerprint,
        "created_at": version.created_at,
        "switched_at": version.switched_at,
        "table": version.table,
        "features": len(version.definition),
        "read_by": offline.versions.readers(version),
        "changes_to_this_code": schema_changes(version.definition, view.schema.meaning),
    }
