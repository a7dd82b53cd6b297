"""What the commands show of windowed views: events, and values made from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from configs.output import Display, Table
from configs.settings import Settings
from feature_store.command_line.names import schema_of, unknown_entity
from feature_store.definitions.entity import KeyValue
from feature_store.definitions.schema import FeatureDefinition, FeatureSchema
from feature_store.definitions.windowed_view import ActivityView
from feature_store.offline import events as activity_events
from feature_store.offline.windowed_reads import ActivityStore
from feature_store.offline_store import OfflineStore
from feature_store.online.row_codec import HEADER_BYTES, row_prefix
from feature_store.online.windowed_row_codec import ActivityCodec
from feature_store.online_store import OnlineStore, translated
from feature_store.windows.writer import online_rows

if TYPE_CHECKING:
    import polars as pl

Finding = tuple[str, str]
"""What is wrong, and where."""
NO_TIME = np.datetime64(0, "us")


def view_facts(view: ActivityView, settings: Settings) -> dict[str, Any]:
    """What ``describe`` tells about a view."""
    schema, codec = view.schema, ActivityCodec(view.schema)
    plan = codec.plan
    return {
        "view": view.name,
        "entity": view.entity,
        "tags": dict(view.tags),
        "features": len(schema),
        "windows": [f"{span} in hops of {hop}" for span, hop in view.windows.items()],
        "ttl": view.ttl_text,
        "fingerprint": schema.fingerprint,
        "offline_table": activity_events.TABLE,
        "online_key": f"{row_prefix(settings.feature.project, schema)}{{{view.entity}}}",
        "online_row_bytes": f"{HEADER_BYTES + codec.map_bytes} + {codec.tile.itemsize} for each of "
        f"at most {plan.tiles} tiles that hold events",
    }


def feature_facts(view: ActivityView, feature: FeatureDefinition) -> dict[str, Any]:
    """What ``describe`` tells about a feature, beside what it tells about any."""
    return {
        "view": view.name,
        **feature.rule,
        "position": view.schema.position(feature.name),
        "offline_table": activity_events.TABLE,
    }


def history(
    view: ActivityView, entity: KeyValue, version: str | None, offline: OfflineStore
) -> Display:
    """Every event of an entity, and the values just after each."""
    schema = schema_of(view, version, offline)
    events, matrix = ActivityStore(offline.postgres).history(schema, view.key.identity(entity))
    if not len(events):
        raise unknown_entity(view, entity, offline)
    names = ("event_id", "event_type", "amount_cents")
    rows = [
        {
            "event_time": row["event_timestamp"],
            "created_time": row["created_timestamp"],
            **{name: row[name] for name in names},
            "values": schema.decode(vector),
        }
        for row, vector in zip(events.iter_rows(named=True), matrix.values, strict=True)
    ]
    facts = {"view": view.name, **view.key.values(entity), "version": schema.fingerprint}
    data = {**facts, "rows": rows}
    lines = [
        (
            *(row["event_time"], row["event_type"], _money(row["amount_cents"])),
            *(row["values"][name] for name in schema.names),
        )
        for row in rows
    ]
    title = (
        f"{view.name} of {view.entity} {view.key.text(entity)}: {len(rows)} events and the values "
        f"just after each, version {schema.fingerprint}"
    )
    return Display(data, [Table(title, ("event time", "type", "amount", *schema.names), lines)])


def current_values(offline: OfflineStore, schema: FeatureSchema, now: datetime) -> pl.DataFrame:
    """The values of every user as of now, with the times of their newest events."""
    import polars as pl

    users = offline.postgres.query(
        "SELECT user_id, max(event_timestamp) AS event_timestamp, "
        "max(created_timestamp) AS created_timestamp "
        f"FROM {activity_events.TABLE} GROUP BY user_id"
    )
    at = np.datetime64(now.astimezone(UTC).replace(tzinfo=None), "us")
    keys = users["user_id"].to_numpy()
    matrix, _ = ActivityStore(offline.postgres).historical(schema, keys, np.full(len(keys), at))
    columns = [
        pl.Series(name, matrix.values[:, place]).fill_nan(None)
        for place, name in enumerate(schema.names)
    ]
    return users.with_columns(columns)


def check(
    offline: OfflineStore, online: OnlineStore, one_in: int
) -> Iterator[tuple[int, Sequence[Finding]]]:
    """Compare online rows with those that the events make; every ``one_in``-th user."""
    for keys in ActivityStore(offline.postgres).users():
        chosen = keys[keys % one_in == 0]
        findings = _differences(offline, online, chosen)
        if findings:  # a writer may have been at work in between: look again
            suspects = np.array(sorted(findings), dtype=np.int64)
            findings = _differences(offline, online, suspects)
        yield len(chosen), list(findings.values())


def too_early(offline: OfflineStore) -> tuple[int, list[Finding]]:
    """How many events there are, and those that were stored before they happened."""
    with offline.postgres.transaction() as connection:
        count = connection.execute(f"SELECT count(*) FROM {activity_events.TABLE}").fetchone()
        early = connection.execute(
            f"SELECT event_id, user_id, event_timestamp FROM {activity_events.TABLE} "
            "WHERE event_timestamp > created_timestamp ORDER BY event_id"
        ).fetchall()
    found = [
        f"event {name!r} of user_id {key} at {time:%Y-%m-%d %H:%M:%S}" for name, key, time in early
    ]
    return count[0] if count else 0, [
        ("event was stored before it happened", each) for each in found
    ]


def _differences(
    offline: OfflineStore, online: OnlineStore, keys: NDArray[np.int64]
) -> dict[int, Finding]:
    if not len(keys):
        return {}
    with offline.postgres.transaction() as connection:
        rows = online_rows(connection, keys, online.schema)
    with translated("read"):
        online.versions.require_ready()
        replies: Any = online.client.mget([online.key(key) for key in rows.keys.tolist()])
    expected = online.codec.encode(rows.values, rows.keys, rows.times, NO_TIME)
    findings = {}
    for key, time, right, stored in zip(
        rows.keys.tolist(), rows.times, expected, replies, strict=True
    ):
        where = f"user_id {key} at {np.datetime_as_string(time, 's')}"
        if stored is None:
            findings[key] = ("entity is missing online", where)
        elif stored[:24] + stored[32:] != right[:24] + right[32:]:
            findings[key] = ("online tiles differ from the events", where)
    return findings


def _money(cents: int | None) -> str | None:
    return None if cents is None else f"{cents / 100:,.2f}"
