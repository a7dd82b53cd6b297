"""Alerts in PostgreSQL: how each is now, everything that was told, and what is still to be sent.

What must be told is written in the same transaction as the state that it follows from: one row for
each sink, which goes away only when that sink has taken it. So whatever dies or is down, nothing
is lost, and a sink that took a notice does not get it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from configs.errors import reason_of
from feature_store.offline.postgres import transaction
from monitoring.alerting.states import Alert

COLUMNS = tuple(Alert.__dataclass_fields__)

Connection = psycopg.Connection[Any]


@dataclass(frozen=True)
class Notice:
    """Something that somebody must be told: an alert as it was then."""

    notice_id: int
    alert: Alert
    created_at: datetime


class AlertStore:
    """The tables ``alerts``, ``alert_notices`` and ``alert_deliveries``.

    Parameters
    ----------
    connect
        Opens a connection to PostgreSQL; each call uses one of its own.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self.connect = connect

    def transaction(self) -> AbstractContextManager[Connection]:
        """One transaction of one writer: two monitors must not both tell the same."""
        return transaction(self.connect, "Alerts cannot be kept", "fti alerts")

    def alerts(self, states: Sequence[str] = ("pending", "firing")) -> list[Alert]:
        """The alerts that are in one of these states, the oldest first."""
        with self.transaction() as connection:
            rows = connection.execute(
                "SELECT * FROM alerts WHERE state = ANY (%s) ORDER BY since, key", (list(states),)
            ).fetchall()
        return [_alert(row) for row in rows]

    def find(self, connection: Connection, key: str) -> Alert | None:
        """One alert, in whatever state."""
        row = connection.execute("SELECT * FROM alerts WHERE key = %s", (key,)).fetchone()
        return _alert(row) if row else None

    def put(self, connection: Connection, alert: Alert) -> None:
        """Keep how an alert is now."""
        values = {name: getattr(alert, name) for name in COLUMNS}
        values |= {"key": alert.key, "labels": Jsonb(dict(alert.labels))}
        names = list(values)
        changed = ", ".join(f"{name} = excluded.{name}" for name in names if name != "key")
        connection.execute(
            f"INSERT INTO alerts ({', '.join(names)}) "
            f"VALUES ({', '.join(f'%({name})s' for name in names)}) "
            f"ON CONFLICT (key) DO UPDATE SET {changed}",
            values,
        )

    def tell(
        self, connection: Connection, alert: Alert, sinks: Sequence[str], now: datetime
    ) -> None:
        """Note that these sinks must be told of an alert as it is now."""
        [notice] = connection.execute(
            "INSERT INTO alert_notices (key, alert, created_at) VALUES (%s, %s, %s) "
            "RETURNING notice_id",
            (alert.key, Jsonb(_to_json(alert)), now),
        ).fetchall()
        connection.cursor().executemany(
            "INSERT INTO alert_deliveries (notice_id, sink, next_attempt_at) VALUES (%s, %s, %s)",
            [(notice["notice_id"], sink, now) for sink in sinks],
        )

    def deliver(
        self, sink: str, send: Callable[[Notice], None], now: datetime, pause: PauseOf
    ) -> tuple[int, str | None]:
        """Send what a sink has not taken yet, in order, until it fails.

        Each notice is locked while it is sent, so that two processes never send the same.

        Parameters
        ----------
        send
            Gives a notice to the sink; an exception is a failure.
        pause
            From the number of attempts to the time until the next.

        Returns
        -------
        How many were taken, and what went wrong if anything did.
        """
        taken = 0
        while True:
            # One sender a sink keeps the order; the lock ends with its process.
            lock = f"fti sink {sink}"
            with transaction(self.connect, "Alerts cannot be sent", lock) as connection:
                row = _next(connection, sink, now)
                if row is None:
                    return taken, None
                problem = _send(connection, row, send, now, pause)
            if problem is not None:
                return taken, problem
            taken += 1

    def waiting(self) -> dict[str, int]:
        """How many notices each sink has not taken yet."""
        with self.transaction() as connection:
            rows = connection.execute(
                "SELECT sink, count(*) AS n FROM alert_deliveries WHERE delivered_at IS NULL "
                "GROUP BY sink"
            ).fetchall()
        return {row["sink"]: row["n"] for row in rows}


PauseOf = Callable[[int], timedelta]


def _next(connection: Connection, sink: str, now: datetime) -> dict[str, Any] | None:
    """The oldest notice that a sink has not taken, unless it is to wait."""
    row: Any = connection.execute(
        "SELECT d.*, n.alert, n.created_at FROM alert_deliveries d JOIN alert_notices n "
        "USING (notice_id) WHERE d.sink = %s AND d.delivered_at IS NULL "
        "ORDER BY notice_id LIMIT 1",
        (sink,),
    ).fetchone()
    return row if row is not None and row["next_attempt_at"] <= now else None


def _alert(row: dict[str, Any]) -> Alert:
    return Alert(**{name: row[name] for name in COLUMNS})


def _to_json(alert: Alert) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in vars(alert).items()
    }


def _from_json(stored: dict[str, Any]) -> Alert:
    times = ("since", "fired_at", "resolved_at", "notified_at")
    read = {name: stored[name] and datetime.fromisoformat(stored[name]) for name in times}
    return Alert(**(stored | read))


def _send(
    connection: Connection,
    row: dict[str, Any],
    send: Callable[[Notice], None],
    now: datetime,
    pause: PauseOf,
) -> str | None:
    """Send one notice and note what came of it; give what went wrong, if anything did."""
    which = row["notice_id"], row["sink"]
    try:
        send(Notice(row["notice_id"], _from_json(row["alert"]), row["created_at"]))
    except Exception as error:  # noqa: BLE001 - a sink may fail in any way
        reason = reason_of(error) or type(error).__name__
        connection.execute(
            "UPDATE alert_deliveries SET attempts = attempts + 1, last_error = %s, "
            "next_attempt_at = %s WHERE (notice_id, sink) = (%s, %s)",
            (reason, now + pause(row["attempts"] + 1), *which),
        )
        return reason
    connection.execute(
        "UPDATE alert_deliveries SET attempts = attempts + 1, last_error = NULL, "
        "delivered_at = %s WHERE (notice_id, sink) = (%s, %s)",
        (now, *which),
    )
    return None
