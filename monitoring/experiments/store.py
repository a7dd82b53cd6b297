"""Where decisions about A/B tests are kept: an append-only table in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg.types.json import Jsonb

from models.deployment.records import Records
from monitoring.experiments.verdict import Action

LOCK = "SELECT pg_try_advisory_lock(hashtext('fti experiment'), hashtext(%s))"
UNLOCK = "SELECT pg_advisory_unlock(hashtext('fti experiment'), hashtext(%s))"
NEWEST = (
    "SELECT * FROM experiment_decisions WHERE model_name = %s AND experiment = %s "
    "ORDER BY decision_id DESC LIMIT %s"
)


@dataclass(frozen=True)
class ExperimentDecision:
    """One decision, with all that it stands on.

    Parameters
    ----------
    champion, challenger
        The versions that were compared.
    generation
        The deployment that it was made about.
    decided_by
        A person, or ``controller`` with who runs it.
    plan, evidence
        As `ExperimentPlan.to_dict` and `Evidence.to_dict` gave them.
    decision_id
        Given by the table; 0 before.
    """

    experiment: str
    champion: str
    challenger: str
    generation: int
    action: Action
    reason: str
    decided_by: str
    decided_at: datetime
    plan: dict[str, Any]
    evidence: dict[str, Any]
    decision_id: int = 0


class ExperimentStore(Records):
    """The decisions about the A/B tests of one registered model."""

    def add(self, decision: ExperimentDecision) -> int:
        """Keep a decision for ever; give its number.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL cannot be reached or goes away.
        """
        row = {name: value for name, value in vars(decision).items() if name != "decision_id"}
        row |= {"plan": Jsonb(decision.plan), "evidence": Jsonb(decision.evidence)}
        with self._translated() as connection, connection.transaction():
            self._insert(connection, "experiment_decisions", row)
            found = connection.execute("SELECT lastval()").fetchone()
            assert found is not None
            return int(found[0])

    def of(self, experiment: str, newest: int | None = None) -> list[ExperimentDecision]:
        """The decisions about a test, oldest first; only so many of the newest if asked."""
        return [decision_of_row(row) for row in reversed(self._read(NEWEST, experiment, newest))]

    def all(self) -> list[ExperimentDecision]:
        """All decisions about all tests, oldest first."""
        query = "SELECT * FROM experiment_decisions WHERE model_name = %s ORDER BY decision_id"
        return [decision_of_row(row) for row in self._read(query)]

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Be the only one that decides, during the body; False if somebody else is.

        Whoever dies meanwhile gives it up, as the connection ends with the process.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL cannot be reached or goes away.
        """
        with self._translated() as connection:
            found = connection.execute(LOCK, (self.model_name,)).fetchone()
            is_mine = bool(found and found[0])
            try:
                yield is_mine
            finally:
                if is_mine and not connection.closed:
                    connection.execute(UNLOCK, (self.model_name,))


def decision_of_row(row: dict[str, Any]) -> ExperimentDecision:
    """Read a row of the table."""
    values = {name: row[name] for name in ExperimentDecision.__dataclass_fields__}
    return ExperimentDecision(**(values | {"decided_at": row["decided_at"].astimezone(UTC)}))
