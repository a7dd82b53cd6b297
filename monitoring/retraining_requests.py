"""Requests for a new model: monitoring writes one, a pipeline acts on it.

A request is asked for by alerts that fire. It is withheld while another one is open, for a
cooldown after the last, and beyond a weekly budget: a model that does not get better by training
must not be trained for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import psycopg
from psycopg.types.json import Jsonb

from configs.monitoring_config import RetrainingConfig
from feature_store.offline.postgres import transaction, translated

Status = Literal[
    "requested", "training", "judging", "experiment", "promoted", "withdrawn", "refused", "failed"
]
OPEN: tuple[Status, ...] = ("requested", "training", "judging", "experiment")
WEEK = timedelta(days=7)

Connection = psycopg.Connection[Any]
PROBLEM = "Retraining requests cannot be kept"


@dataclass(frozen=True)
class RetrainingRequest:
    """A retraining that was asked for.

    Parameters
    ----------
    alerts
        The alerts that ask for it; none when a person did.
    champion
        What served when it was asked for.
    data_start, data_end
        Half-open range of label times to learn from; a start of None is that of the settings. It
        is fixed here, so that a second attempt learns from the same rows.
    label
        The version that was trained, once it was.
    """

    request_id: int
    model_name: str
    reason: str
    alerts: tuple[str, ...]
    champion: str | None
    data_start: datetime | None
    data_end: datetime
    status: Status
    label: str | None
    requested_at: datetime
    changed_at: datetime


@dataclass(frozen=True)
class Withheld:
    """Why no retraining was requested."""

    reason: str


@dataclass(frozen=True)
class RetrainingStep:
    """Something that happened to a request, or kept one from being written."""

    request_id: int | None
    step: str
    detail: str
    at: datetime
    facts: Mapping[str, Any] = field(default_factory=dict)


def decide(
    config: RetrainingConfig,
    earlier: Sequence[RetrainingRequest],
    now: datetime,
    *,
    by_person: bool = False,
) -> Withheld | None:
    """Say why a retraining must not be requested now; None when it may.

    A person may ask at any time, but never for two at once.

    Parameters
    ----------
    earlier
        All requests for the model, in any order.
    """
    if not config.enabled and not by_person:
        return Withheld("'monitoring.retraining.enabled' is false")
    for request in earlier:
        if request.status in OPEN:
            return Withheld(f"request {request.request_id} is open ({request.status})")
    if by_person or not earlier:
        return None
    last = max(request.requested_at for request in earlier)
    cool_at = last + timedelta(hours=config.cooldown_hours)
    if now < cool_at:
        return Withheld(
            f"the last one was at {last:%F %H:%M}; the next may be at {cool_at:%F %H:%M}"
        )
    this_week = sum(now - request.requested_at < WEEK for request in earlier)
    if this_week >= config.weekly_budget:
        return Withheld(f"{this_week} in seven days are as many as the budget allows")
    return None


class RetrainingStore:
    """The tables ``retraining_requests`` and ``retraining_steps`` of one registered model.

    Parameters
    ----------
    connect
        Opens a connection to PostgreSQL; each call uses one of its own.
    """

    def __init__(self, connect: Callable[[], Connection], model_name: str) -> None:
        self.connect = connect
        self.model_name = model_name

    def request(
        self,
        config: RetrainingConfig,
        reason: str,
        alerts: Sequence[str],
        champion: str | None,
        now: datetime,
    ) -> RetrainingRequest | Withheld:
        """Write a request unless it must be withheld; either is recorded."""
        with transaction(self.connect, PROBLEM, "fti retraining") as connection:
            earlier = self._requests(connection)
            withheld = decide(config, earlier, now, by_person=not alerts)
            if withheld is not None:
                self._withhold(connection, withheld, reason, now)
                return withheld
            days = config.window_days
            start = None if days is None else now - timedelta(days=days)
            [row] = connection.execute(
                "INSERT INTO retraining_requests (model_name, reason, alerts, champion, "
                "data_start, data_end, status, requested_at, changed_at) "
                "VALUES (%s, %s, %s, %s, %s, %s, 'requested', %s, %s) RETURNING *",
                (self.model_name, reason, list(alerts), champion, start, now, now, now),
            ).fetchall()
            request = _request(row)
            self._note(connection, request.request_id, "requested", reason, {}, now)
            return request

    def requests(self) -> list[RetrainingRequest]:
        """All requests, the oldest first."""
        with transaction(self.connect, PROBLEM) as connection:
            return self._requests(connection)

    def open(self) -> RetrainingRequest | None:
        """The request that is not done with."""
        return next((each for each in self.requests() if each.status in OPEN), None)

    def steps(self, request_id: int | None = None) -> list[RetrainingStep]:
        """What happened, the oldest first; of one request or of all."""
        with transaction(self.connect, PROBLEM) as connection:
            rows = connection.execute(
                "SELECT request_id, step, detail, at, facts FROM retraining_steps "
                "WHERE model_name = %s AND (%s::bigint IS NULL OR request_id = %s) "
                "ORDER BY step_id",
                (self.model_name, request_id, request_id),
            ).fetchall()
        return [RetrainingStep(**row) for row in rows]

    def move(
        self,
        request: RetrainingRequest,
        status: Status,
        detail: str,
        now: datetime,
        label: str | None = None,
        **facts: Any,
    ) -> RetrainingRequest:
        """Move a request on and record the step; both or neither."""
        with transaction(self.connect, PROBLEM) as connection:
            [row] = connection.execute(
                "UPDATE retraining_requests SET status = %s, label = coalesce(%s, label), "
                "changed_at = %s WHERE request_id = %s RETURNING *",
                (status, label, now, request.request_id),
            ).fetchall()
            self._note(connection, request.request_id, status, detail, facts, now)
            return _request(row)

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Be the only one that acts on requests, during the body; False if another process does.

        The lock ends with its process, however that ends.
        """
        query = "SELECT pg_try_advisory_lock(hashtext('fti retraining of ' || %s))"
        with translated("Retraining cannot be locked"):
            connection = self.connect()
            row = connection.execute(query, (self.model_name,)).fetchone()
        with closing(connection):
            yield bool(row and row[0])

    def _requests(self, connection: Connection) -> list[RetrainingRequest]:
        rows = connection.execute(
            "SELECT * FROM retraining_requests WHERE model_name = %s ORDER BY request_id",
            (self.model_name,),
        ).fetchall()
        return [_request(row) for row in rows]

    def _withhold(
        self, connection: Connection, withheld: Withheld, reason: str, now: datetime
    ) -> None:
        """Record that a request was withheld, once for each reason and not with every pass."""
        last = connection.execute(
            "SELECT step, detail FROM retraining_steps WHERE model_name = %s "
            "ORDER BY step_id DESC LIMIT 1",
            (self.model_name,),
        ).fetchone()
        if last is None or (last["step"], last["detail"]) != ("withheld", withheld.reason):
            facts = {"asked_for": reason}
            self._note(connection, None, "withheld", withheld.reason, facts, now)

    def _note(
        self,
        connection: Connection,
        request_id: int | None,
        step: str,
        detail: str,
        facts: Mapping[str, Any],
        now: datetime,
    ) -> None:
        connection.execute(
            "INSERT INTO retraining_steps (request_id, model_name, step, detail, facts, at) "
            "VALUES (%s, %s, %s, %s, %s, %s)",
            (request_id, self.model_name, step, detail, Jsonb(dict(facts)), now),
        )


def _request(row: dict[str, Any]) -> RetrainingRequest:
    times = {
        name: row[name] and row[name].astimezone(UTC)
        for name in ("data_start", "data_end", "requested_at", "changed_at")
    }
    return RetrainingRequest(**(row | times | {"alerts": tuple(row["alerts"])}))
