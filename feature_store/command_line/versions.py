"""``versions``, ``switch-version`` and ``drop-version``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from configs.command_line import AsJson, Debug, progress
from configs.output import Display, Table, show
from configs.section import utc_time
from configs.settings import Settings, load_settings
from feature_store import connect, versions
from feature_store.command_line.names import ViewArgument
from feature_store.definitions.schema_changes import schema_changes, summary
from feature_store.definitions.windowed_view import ActivityView, View
from feature_store.errors import FeatureStoreError
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline.newest_rows import events_before, newest_rows
from feature_store.offline.versions import FILL, ViewVersion
from feature_store.offline_store import OfflineStore
from feature_store.online_store import OnlineStore
from feature_store.references import view_named
from feature_store.windows.writer import ActivityWriter

Fingerprint = Annotated[str, typer.Argument(help="The version's fingerprint, or its beginning.")]

commands = typer.Typer()


@commands.command("versions", epilog="Example: python -m feature_store versions user_features")
def list_versions(
    view: ViewArgument = MODEL_VIEW.name, as_json: AsJson = False, debug: Debug = False
) -> None:
    """List the stored versions of a view: state, times, readers, how they differ from this code."""
    offline = connect.offline_store(load_settings())
    show(versions_table(offline, view_named(view)), as_json=as_json)


def versions_table(offline: OfflineStore, view: View) -> Display:
    """What is stored of a view, the newest first, and how that differs from this code."""
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
    return Display(data, [Table(title, headings, rows)])


@commands.command(epilog="Example: python -m feature_store switch-version user_features 3f2a91c0")
def switch_version(
    view: ViewArgument,
    fingerprint: Fingerprint,
    max_missing_share: Annotated[
        float, typer.Option(help="Entities of the current version that may lack a row.")
    ] = 0.01,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make a stored version the current one; also the way back to an older one."""
    offline, online, version = _stores(view, fingerprint, load_settings())
    # What a killed fill left out of Redis is in PostgreSQL, or the switch is refused.
    fill_online(offline, online, version)
    now = versions.switch(offline, online, max_missing_share)
    data = {"view": now.view, "fingerprint": now.fingerprint, "switched_at": now.switched_at}
    line = f"✓ {now.fingerprint} is the current version of {now.view}"
    show(Display(data, [Table(line, (), [])]), as_json=as_json)


@commands.command(
    epilog="Examples: … rebuild user_activity · … rebuild user_activity --start 2026-01-01"
)
def rebuild(
    view: ViewArgument = MODEL_VIEW.name,
    start: Annotated[str | None, typer.Option(help="Only users with an event since.")] = None,
    end: Annotated[str | None, typer.Option(help="Only users with an event before.")] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write all online rows anew out of PostgreSQL: after Redis was lost, or a view was changed."""
    since, before = (utc_time(each) if each else None for each in (start, end))
    settings = load_settings()
    defined, offline = view_named(view), connect.offline_store(settings)
    online = connect.online_store(settings, schema=defined.schema)
    whole = since is None and before is None
    if isinstance(defined, ActivityView):
        versions.start_fill(offline, online, defined.entity)
        written = _fill_from_events(offline, online, since, before)
    elif whole:
        written = fill_online(offline, online, offline.versions.readable(defined.schema))
    else:
        raise FeatureStoreError(
            f"'{view}' is rebuilt as a whole; for a range: {FILL} --mode backfill."
        )
    if whole:  # of a part, the version that is current stays so
        versions.switch(offline, online, 0)
    data = {"view": view, "fingerprint": defined.schema.fingerprint, "online_rows": written}
    line = f"✓ rebuilt {written:,} online rows of {view}, version {defined.schema.fingerprint}"
    show(Display(data, [Table(line, (), [])]), as_json=as_json)


def fill_online(offline: OfflineStore, online: OnlineStore, version: ViewVersion) -> int:
    """Write every online row of a stored version; return of how many entities."""
    if version.schema.is_windowed:
        return _fill_from_events(offline, online, None, None)
    entities = 0
    for block in newest_rows(offline.postgres, version, [events_before(datetime.now(UTC))]):
        online.write(block.matrix, block.created)
        entities += len(block)
    return entities


def _fill_from_events(
    offline: OfflineStore, online: OnlineStore, start: datetime | None, end: datetime | None
) -> int:
    writer = ActivityWriter(offline.postgres, online)
    with progress("rebuild", writer.count_users(start, end), " users") as advance:
        return writer.rebuild(start, end, advance)


@commands.command(epilog="Example: python -m feature_store drop-version user_features 3f2a91c0")
def drop_version(
    view: ViewArgument,
    fingerprint: Fingerprint,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Delete a version from both stores; not the current one, nor one a deployed model reads."""
    if not yes:
        typer.confirm(f"Delete version {fingerprint} of {view}?", abort=True, err=True)
    offline, online, version = _stores(view, fingerprint, load_settings())
    deleted = versions.drop(offline, online)
    data = {"view": version.view, "fingerprint": version.fingerprint, "online_rows": deleted}
    table = "" if version.schema.is_windowed else f"{version.table} and "
    line = f"✓ dropped {table}{deleted:,} online rows of {version.fingerprint}"
    show(Display(data, [Table(line, (), [])]), as_json=as_json)


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
        "features": len(version.schema),
        "read_by": offline.versions.readers(version),
        "changes_to_this_code": schema_changes(version.definition, view.schema.meaning),
    }
