"""``history``: deployments, stage changes and overruled gates; what served at a time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from configs.output import Answer, Table
from configs.settings import Settings
from models import connect
from models.command_line.versions import with_ends
from models.deployment.record import Deployment
from models.deployment.store import DeploymentStore


def show_history(settings: Settings, as_of: datetime | None) -> Answer:
    """Everything that happened, oldest first; or what was in production at a time."""
    store = connect.deployment_store(settings)
    return _events(store) if as_of is None else _served(store, as_of)


def _events(store: DeploymentStore) -> Answer:
    data = [
        *(_of_deployment(record) for record in store.history()),
        *(
            _event(c.changed_at, "stage", c.label, " → ".join(c.path), c.reason)
            for c in store.stage_history()
        ),
        *(
            _event(o.forced_at, "overruled", o.label, o.overruled, f"{o.actor}: {o.reason}")
            for o in store.overrides()
        ),
    ]
    data.sort(key=lambda event: event["at"])
    title = f"History of {store.model_name}" + ("" if data else ": nothing has happened yet")
    columns = ("at", "kind", "version", "what", "reason") if data else ()
    return Answer(data, [Table(title, columns, [tuple(event.values()) for event in data])])


def _served(store: DeploymentStore, as_of: datetime) -> Answer:
    earlier = [each for each in with_ends(store.history()) if each[0].created_at <= as_of]
    if not earlier:
        data: dict[str, Any] = {"as_of": as_of, "champion": None, "arms": []}
        return Answer(data, [Table(f"Nothing was in production at {_when(as_of)}", (), [])])
    record, until = earlier[-1]
    arms = [
        {"version": arm.label, "as": arm.name, "share": arm.share, "digest": arm.digest}
        for arm in record.arms
    ]
    data = {
        "as_of": as_of,
        "champion": record.champion.label,
        "generation": record.generation,
        "since": record.created_at,
        "until": until,
        "arms": arms,
    }
    rows = [(*arm.values(), record.created_at, until) for arm in arms]
    title = f"In production at {_when(as_of)}: generation {record.generation}"
    return Answer(data, [Table(title, (*arms[0], "since", "until"), rows)])


def _of_deployment(record: Deployment) -> dict[str, Any]:
    arms = ", ".join(f"{arm.label} {arm.share:.0%}" for arm in record.arms)
    what = f"generation {record.generation}, {record.action}: {arms}"
    return _event(record.created_at, "deployment", record.champion.label, what, record.reason)


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _event(at: datetime, kind: str, version: str, what: str, reason: str) -> dict[str, Any]:
    return {"at": at, "kind": kind, "version": version, "what": what, "reason": reason}
