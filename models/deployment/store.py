"""Where deployment records and stage changes are kept: append-only tables in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg.types.json import Jsonb

from feature_store.offline.versions import record_readers
from models.deployment.record import Deployment
from models.deployment.records import Connection, Records
from models.errors import DeploymentConflict

LOCK = "SELECT pg_advisory_xact_lock(hashtext('fti deployments'))"


@dataclass(frozen=True)
class StageChange:
    """One version's way through the stages, from the first of ``path`` to the last."""

    version: int
    label: str
    path: tuple[str, ...]
    reason: str
    changed_at: datetime


@dataclass(frozen=True)
class Override:
    """Somebody let a version pass whatever the gates said.

    Parameters
    ----------
    overruled
        What the gates had said.
    reason, actor
        Why, and who.
    """

    version: int
    label: str
    overruled: str
    reason: str
    actor: str
    forced_at: datetime


class DeploymentStore(Records):
    """The deployments, stage changes and overrides of one registered model."""

    def generation(self) -> int:
        """The newest generation; 0 when nothing has ever been deployed."""
        rows = self._read("SELECT max(generation) AS newest FROM deployments WHERE model_name = %s")
        return (rows[0]["newest"] or 0) if rows else 0

    def current(self) -> Deployment | None:
        """The record that serves."""
        rows = self._read(
            "SELECT * FROM deployments WHERE model_name = %s ORDER BY generation DESC LIMIT 1"
        )
        return _deployment(rows[0]) if rows else None

    def recorded(self, generation: int) -> Deployment | None:
        """The record of a generation."""
        rows = self._read(
            "SELECT * FROM deployments WHERE model_name = %s AND generation = %s", generation
        )
        return _deployment(rows[0]) if rows else None

    def history(self) -> list[Deployment]:
        """All records, oldest first."""
        rows = self._read("SELECT * FROM deployments WHERE model_name = %s ORDER BY generation")
        return [_deployment(row) for row in rows]

    def stage_history(self) -> list[StageChange]:
        """All stage changes of the model's versions, oldest first."""
        rows = self._read(
            "SELECT version, label, path, reason, changed_at FROM model_stage_history "
            "WHERE model_name = %s ORDER BY change_id"
        )
        return [StageChange(**(row | {"path": tuple(row["path"])})) for row in rows]

    def overrides(self) -> list[Override]:
        """All overrides of the gates, oldest first."""
        rows = self._read(
            "SELECT version, label, overruled, reason, actor, forced_at FROM model_overrides "
            "WHERE model_name = %s ORDER BY override_id"
        )
        return [Override(**row) for row in rows]

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Keep everybody from deploying during the body; waits for a deployment under way."""
        with self._translated() as connection, connection.transaction():
            connection.execute(LOCK)
            yield

    @contextmanager
    def recording(
        self,
        deployment: Deployment | None,
        changes: Sequence[StageChange],
        override: Override | None = None,
    ) -> Iterator[None]:
        """Record a deployment and the stages it changes around the body: all of it or nothing.

        The body does what must happen with the record (the registry's tags); when it raises,
        nothing is recorded. One at a time: others wait, and are refused when they come too late.

        Raises
        ------
        DeploymentConflict
            If another deployment has been recorded since the one this follows.
        StoreUnavailable
            If PostgreSQL cannot be reached or goes away.
        """
        with self._translated() as connection, connection.transaction():
            connection.execute(LOCK)
            generation = deployment.generation if deployment else None
            if deployment is not None:
                self._refuse_late(connection, deployment.generation)
                self._insert(connection, "deployments", _row(deployment))
            for change in changes:
                row = vars(change) | {
                    "path": list(change.path),
                    "generation": generation,
                }
                self._insert(connection, "model_stage_history", row)
            if override is not None:
                row = vars(override) | {"generation": generation}
                self._insert(connection, "model_overrides", row)
            yield
            if deployment is not None:
                # What serves must not be dropped from the feature store.
                readers = {arm.label: arm.fingerprint for arm in deployment.arms}
                record_readers(connection, f"model {self.model_name}", readers)

    def _refuse_late(self, connection: Connection, generation: int) -> None:
        query = "SELECT max(generation) FROM deployments WHERE model_name = %s"
        [newest] = connection.execute(query, (self.model_name,)).fetchone() or [None]
        if (newest or 0) + 1 != generation:
            raise DeploymentConflict(
                f"Somebody else deployed meanwhile: generation {newest} is recorded, this would "
                f"have been {generation} after {generation - 1}. Look at it and try again."
            )


def _deployment(row: dict[str, Any]) -> Deployment:
    values = {name: value for name, value in row.items() if name != "model_name"}
    return Deployment.from_dict(values | {"created_at": row["created_at"].astimezone(UTC)})


def _row(deployment: Deployment) -> dict[str, Any]:
    values = deployment.to_dict()
    packed = {name: Jsonb(values[name]) for name in ("arms", "plan", "overrides") if values[name]}
    unpacked = {"plan": None, "overrides": None, "created_at": deployment.created_at}
    return values | unpacked | packed
