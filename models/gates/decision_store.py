"""Where the decisions of the gates are kept: an append-only table in PostgreSQL."""

from __future__ import annotations

from psycopg.types.json import Jsonb

from models.deployment.records import Records
from models.gates.rules import Decision
from models.registry.versions import ModelVersion


class DecisionStore(Records):
    """The decisions about one registered model's versions."""

    def add(self, version: ModelVersion, decision: Decision) -> None:
        """Keep a decision for ever.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL cannot be reached or goes away.
        """
        row = {
            "version": version.version,
            "label": version.label,
            "passed": decision.passed,
            "decision": Jsonb(decision.to_dict()),
            "judged_at": decision.judged_at,
        }
        with self._translated() as connection, connection.transaction():
            self._insert(connection, "model_gate_decisions", row)

    def of(self, version: ModelVersion) -> list[Decision]:
        """All decisions about this very artifact, oldest first."""
        rows = self._read(
            "SELECT decision FROM model_gate_decisions WHERE model_name = %s AND version = %s "
            "ORDER BY decision_id",
            version.version,
        )
        decisions = [Decision.from_dict(row["decision"]) for row in rows]
        return [each for each in decisions if each.digest == version.digest]

    def newest(self, version: ModelVersion) -> Decision | None:
        """The decision about a version that counts; None when it was never judged."""
        decisions = self.of(version)
        return decisions[-1] if decisions else None
