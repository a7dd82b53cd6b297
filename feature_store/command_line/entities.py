"""``get`` and ``history``: what the stores hold of one entity."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from configs.output import Answer, Table, text
from configs.settings import Settings
from feature_store import connect
from feature_store.command_line import activity
from feature_store.command_line.names import schema_of, unknown_entity, view_named
from feature_store.definitions.windowed_view import ActivityView
from feature_store.errors import EntityNotFound
from feature_store.offline.newest_rows import StoredRows, every_row

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Values = dict[str, int | float | str | None]


def get_online(
    view: str, entity: int, version: str | None, settings: Settings, now: datetime
) -> Answer:
    """The online row of an entity."""
    defined = view_named(view)
    offline = connect.offline_store(settings)
    schema = schema_of(defined, version, offline)
    store = connect.online_store(settings, schema=schema)  # a person waits longer than a request
    try:
        row = store.read(entity)
    except EntityNotFound as error:
        raise unknown_entity(defined, entity, offline, error) from None
    event, created = _time(row.event_time_us), _time(row.created_time_us)
    decoded = schema.decode(row.vector)
    data = {
        "view": view,
        defined.entity: entity,
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
    units = {feature.name: feature.unit for feature in schema.features}
    values = [(name, text(value), units[name]) for name, value in decoded.items()]
    title = f"{view} of {defined.entity} {entity}"
    return Answer(
        data, [Table(title, ("", ""), about), Table("", ("feature", "value", "unit"), values)]
    )


def history(view: str, entity: int, version: str | None, settings: Settings) -> Answer:
    """Every offline row of an entity and what each changed, or every event of a windowed view."""
    defined, offline = view_named(view), connect.offline_store(settings)
    if isinstance(defined, ActivityView):
        return activity.history(defined, entity, version, offline)
    stored = offline.versions.readable(schema_of(defined, version, offline))
    where = [f"{stored.entity} = {entity}"]
    rows = [row for block in every_row(offline.postgres, stored, where) for row in _rows(block)]
    if not rows:
        raise unknown_entity(defined, entity, offline)
    before: Values = {}
    for row in rows:
        row["changes"] = _changes(before, row["values"]) if before else {}
        before = row["values"]
    data = {"view": view, defined.entity: entity, "version": stored.fingerprint, "rows": rows}
    lines = [
        (place, row["event_time"], row["created_time"], _told(row["changes"], place))
        for place, row in enumerate(rows, start=1)
    ]
    title = f"{view} of {defined.entity} {entity}: {len(rows)} rows, version {stored.fingerprint}"
    return Answer(data, [Table(title, ("row", "event time", "created time", "changes"), lines)])


def _rows(block: StoredRows) -> list[dict[str, Any]]:
    matrix = block.matrix
    return [
        {
            "event_time": time.astype(datetime).replace(tzinfo=UTC),
            "created_time": created.astype(datetime).replace(tzinfo=UTC),
            "values": matrix.schema.decode(vector),
        }
        for time, created, vector in zip(matrix.times, block.created, matrix.values, strict=True)
    ]


def _changes(before: Values, after: Values) -> dict[str, list[object]]:
    return {name: [before[name], value] for name, value in after.items() if before[name] != value}


def _told(changes: dict[str, list[object]], place: int) -> str:
    if place == 1:
        return "first row"
    told = [f"{name} {text(old)} → {text(new)}" for name, (old, new) in changes.items()]
    return "; ".join(told) or "nothing"


def _time(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)
