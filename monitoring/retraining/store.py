"""When a model is trained anew: monitoring writes a request, a pipeline acts on it.

A request is asked for by alerts that fire. It is withheld while another one is open, for a
cooldown after the last, and beyond a weekly budget: a model that does not get better by training
must not be trained for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from configs.monitoring_config import RetrainingConfig
from configs.settings import load_settings
from feature_store.errors import StoreUnavailable
from feature_store.offline.postgres import create
from monitoring.retraining.rules import OPEN, Request, Status, Step, Withheld, decide

TABLES = """
CREATE TABLE IF NOT EXISTS retraining_requests (
    request_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model_name text NOT NULL,
    reason text NOT NULL,
    alerts text[] NOT NULL,
    champion text,
    data_start timestamptz,
    data_end timestamptz NOT NULL,
    status text NOT NULL,
    label text,
    requested_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS one_open_retraining ON retraining_requests (model_name)
    WHERE status IN ('requested', 'training', 'judging', 'experiment');
CREATE TABLE IF NOT EXISTS retraining_steps (
    step_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id bigint REFERENCES retraining_requests,
    model_name text NOT NULL,
    step text NOT NULL,
    detail text NOT NULL,
    facts jsonb NOT NULL,
    at timestamptz NOT NULL
)
"""
Connection = psycopg.Connection[Any]


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
    ) -> Request | Withheld:
        """Write a request unless it must be withheld; either is recorded."""
        with self._transaction() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('fti retraining'))")
            earlier = self._requests(connection)
            withheld = decide(config, earlier, now, by_person=not alerts)
            if withheld is not None:
                self._withhold(connection, withheld, reason, now)
                return withheld
            days = config.window_days
            start = None if days is None else now - timedelta(days=days)
            row = connection.execute(
                "INSERT INTO retraining_requests (model_name, reason, alerts, champion, "
                "data_start, data_end, status, requested_at, changed_at) "
                "VALUES (%s, %s, %s, %s, %s, %s, 'requested', %s, %s) RETURNING *",
                (self.model_name, reason, list(alerts), champion, start, now, now, now),
            ).fetchone()
            assert row is not None
            request = _request(row)
            self._note(connection, request.request_id, "requested", reason, {}, now)
            return request

    def requests(self) -> list[Request]:
        """All requests, the oldest first."""
        with self._transaction() as connection:
            return self._requests(connection)

    def open(self) -> Request | None:
        """The request that is not done with."""
        return next((each for each in self.requests() if each.status in OPEN), None)

    def steps(self, request_id: int | None = None) -> list[Step]:
        """What happened, the oldest first; of one request or of all."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT request_id, step, detail, at, facts FROM retraining_steps "
                "WHERE model_name = %s AND (%s::bigint IS NULL OR request_id = %s) "
                "ORDER BY step_id",
                (self.model_name, request_id, request_id),
            ).fetchall()
        return [Step(**row) for row in rows]

    def move(
        self,
        request: Request,
        status: Status,
        detail: str,
        now: datetime,
        label: str | None = None,
        **facts: Any,
    ) -> Request:
        """Move a request on and record the step; both or neither."""
        with self._transaction() as connection:
            row = connection.execute(
                "UPDATE retraining_requests SET status = %s, label = coalesce(%s, label), "
                "changed_at = %s WHERE request_id = %s RETURNING *",
                (status, label, now, request.request_id),
            ).fetchone()
            assert row is not None
            self._note(connection, request.request_id, status, detail, facts, now)
            return _request(row)

    @contextmanager
    def acting(self) -> Iterator[bool]:
        """Tell whether nobody else acts on requests; nobody else can during the body.

        The lock ends with its process, however that ends.
        """
        query = "SELECT pg_try_advisory_lock(hashtext('fti retraining of ' || %s))"
        try:
            connection = self.connect()
            row = connection.execute(query, (self.model_name,)).fetchone()
        except psycopg.Error as error:
            reason = " ".join(str(error).split())
            raise StoreUnavailable(f"Retraining cannot be locked: {reason}.") from error
        with closing(connection):
            yield bool(row and row[0])

    def _requests(self, connection: Connection) -> list[Request]:
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

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self.connect() as connection:
                connection.row_factory = dict_row
                with connection.transaction():
                    create(connection, TABLES)
                with connection.transaction():
                    yield connection
        except psycopg.Error as error:
            reason = " ".join(str(error).split())
            raise StoreUnavailable(f"Retraining requests cannot be kept: {reason}.") from error


def trigger_training_pipeline(reason: str = "asked for by a person") -> Request | Withheld:
    """Ask for a retraining; ``python pipelines/run.py retrain`` acts on it.

    Returns
    -------
    The request, or why there is none: another one is open.
    """
    from models.connect import now
    from monitoring import connect

    settings = load_settings()
    serving = connect.watched(settings)
    champion = serving.champion if serving else None
    config = settings.monitoring.retraining
    return connect.retraining_store(settings).request(config, reason, (), champion, now())


def _request(row: dict[str, Any]) -> Request:
    times = {
        name: row[name] and row[name].astimezone(UTC)
        for name in ("data_start", "data_end", "requested_at", "changed_at")
    }
    return Request(**(row | times | {"alerts": tuple(row["alerts"])}))
