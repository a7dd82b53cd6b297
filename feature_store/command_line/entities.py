"""``get`` and ``history``: what the stores hold of one entity."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import typer

from configs.command_line import AsJson, Debug
from configs.output import Display, Table, show, text
from configs.settings import load_settings
from feature_store import connect
from feature_store.command_line import activity
from feature_store.command_line.names import (
    KeyOption,
    VersionOption,
    ViewOption,
    schema_of,
    unknown_entity,
)
from feature_store.definitions.entity import KeyValue
from feature_store.definitions.schema import FeatureSchema
from feature_store.definitions.windowed_view import ActivityView, View
from feature_store.errors import EntityNotFound
from feature_store.feature_definitions import MODEL_VIEW
from feature_store.offline.newest_rows import StoredRows, every_row
from feature_store.offline_store import OfflineStore
from feature_store.online.row_codec import moment_of
from feature_store.references import view_named

Values = dict[str, Any]

commands = typer.Typer()


@commands.command(epilog="Example: python -m feature_store get --key 12345")
def get(
    key: KeyOption,
    view: ViewOption = MODEL_VIEW.name,
    version: VersionOption = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show the online row of an entity: values, times, age, version."""
    settings, now = load_settings(), datetime.now(UTC)
    defined = view_named(view)
    entity = defined.key.parse(key)
    offline = connect.offline_store(settings)
    schema = schema_of(defined, version, offline)
    store = connect.online_store(settings, schema=schema)  # a person waits longer than a request
    try:
        row = store.read(defined.key.identity(entity))
    except EntityNotFound as error:
        raise unknown_entity(defined, entity, offline, error) from None
    event, created = moment_of(row.event_time_us), moment_of(row.created_time_us)
    decoded = schema.decode(row.vector, row.exact)
    data = {
        "view": view,
        **defined.key.values(entity),
        "version": schema.fingerprint,
        "event_time": event,
        "created_time": created,
        "age": now - event,
        "values": decoded,
    }
    about = [
        ("version", schema.fingerprint),
        ("event time", event),
        ("created time", created),
        ("age", now - event),
    ]
    units = {column.name: column.unit for column in schema.exact}
    units |= {(f.array[0] if f.array else f.name): f.unit for f in schema.features}
    values = [(name, text(value), units[name]) for name, value in decoded.items()]
    title = f"{view} of {defined.entity} {defined.key.text(entity)}"
    tables = [Table(title, ("", ""), about), Table("", ("feature", "value", "unit"), values)]
    show(Display(data, tables), as_json=as_json)


@commands.command(epilog="Example: python -m feature_store history --key 12345")
def history(
    key: KeyOption,
    view: ViewOption = MODEL_VIEW.name,
    version: VersionOption = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show every offline row of an entity and what changed, or every event and what followed."""
    settings = load_settings()
    defined, offline = view_named(view), connect.offline_store(settings)
    entity = defined.key.parse(key)
    if isinstance(defined, ActivityView):
        answer = activity.history(defined, entity, version, offline)
    else:
        answer = _history(defined, entity, version, offline)
    show(answer, as_json=as_json)


def _history(
    defined: View, entity: KeyValue, version: str | None, offline: OfflineStore
) -> Display:
    stored = offline.versions.readable(schema_of(defined, version, offline))
    where = [f"{stored.entity} = {defined.key.identity(entity)}"]
    schema = offline.vocabularies.schema(stored.schema)
    blocks = every_row(offline.postgres, stored, where)
    rows = [row for block in blocks for row in _rows(block, schema)]
    if not rows:
        raise unknown_entity(defined, entity, offline)
    before: Values = {}
    for row in rows:
        row["changes"] = _changes(before, row["values"]) if before else {}
        before = row["values"]
    facts = {
        "view": defined.name,
        **defined.key.values(entity),
        "version": stored.fingerprint,
    }
    lines = [
        (place, row["event_time"], row["created_time"], _shown_changes(row["changes"], place))
        for place, row in enumerate(rows, start=1)
    ]
    title = (
        f"{defined.name} of {defined.entity} {defined.key.text(entity)}: {len(rows)} rows, "
        f"version {stored.fingerprint}"
    )
    columns = ("row", "event time", "created time", "changes")
    return Display({**facts, "rows": rows}, [Table(title, columns, lines)])


def _rows(block: StoredRows, schema: FeatureSchema) -> list[dict[str, Any]]:
    matrix = block.matrix
    exact = [None] * len(matrix) if matrix.exact is None else matrix.exact.tolist()
    return [
        {
            "event_time": time.astype(datetime).replace(tzinfo=UTC),
            "created_time": created.astype(datetime).replace(tzinfo=UTC),
            "values": schema.decode(vector, more),
        }
        for time, created, vector, more in zip(
            matrix.times, block.created, matrix.values, exact, strict=True
        )
    ]


def _changes(before: Values, after: Values) -> dict[str, list[object]]:
    return {name: [before[name], value] for name, value in after.items() if before[name] != value}


def _shown_changes(changes: dict[str, list[object]], place: int) -> str:
    if place == 1:
        return "first row"
    told = [f"{name} {text(old)} → {text(new)}" for name, (old, new) in changes.items()]
    return "; ".join(told) or "nothing"
