"""Feast's registry as one row in PostgreSQL: read in one query, changed by compare-and-set.

Feast's own SQL registry keeps 16 tables, wants its URL written in ``feature_store.yaml`` and lets
the last of two concurrent writers win.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from feast.feature_view import FeatureViewState
from feast.infra.registry.registry_store import RegistryStore
from feast.protos.feast.core.Registry_pb2 import Registry
from feast.repo_config import RegistryConfig

import feature_store.feast_plugin.logging  # noqa: F401 - Feast finds the class by its name
from feature_store.errors import RegistryChanged, StoreUnavailable
from feature_store.feast_plugin.connections import postgres


class PostgresRegistryStore(RegistryStore):
    """Keeps the registry in the table ``feast_registry``.

    Parameters
    ----------
    registry_config
        Its ``path`` is the URL of the database; empty for the one of the settings.
    repo_path
        Not used.
    """

    def __init__(self, registry_config: RegistryConfig, repo_path: Path | None) -> None:
        self._postgres = postgres(registry_config.path or None)
        self._last_known: bytes | None = None
        self._unsure: list[str] = []
        self._ends: dict[tuple[str, datetime], datetime] = {}

    def note_end(self, view: str, given: datetime, reached: datetime) -> None:
        """Write ``reached`` where Feast is about to note that a view is materialized to ``given``.

        Feast notes the end that it was given; one that lies ahead would let the next increment
        begin there, and all rows until then would never be written.
        """
        self._ends[view, given] = reached

    def get_registry_proto(self) -> Registry:
        """Read the registry; while PostgreSQL is away, the last one known.

        Raises
        ------
        FileNotFoundError
            If there is none yet, as Feast expects.
        StoreUnavailable
            If PostgreSQL is away and none is known.
        """
        try:
            self._last_known = self._read()
        except StoreUnavailable:
            if self._last_known is None:
                raise
        if self._last_known is None:
            raise FileNotFoundError("The Feast registry is empty. Run `feast apply`.")
        registry = Registry()
        registry.ParseFromString(self._last_known)
        return registry

    def update_registry_proto(self, registry_proto: Registry) -> None:
        """Write the registry if nobody has changed it since it was read.

        Raises
        ------
        RegistryChanged
            If another process has; what it wrote stands.
        """
        _keep_serving(registry_proto)
        _correct_ends(registry_proto, self._ends, datetime.now(UTC))
        read, changed = registry_proto.version_id, Registry()
        changed.CopyFrom(registry_proto)
        changed.version_id = str(uuid.uuid4())
        changed.last_updated.FromDatetime(datetime.now(UTC))
        # A write whose answer got lost may have been kept: then it is ours that is there.
        expected, self._unsure = [read, *self._unsure], [*self._unsure, changed.version_id]
        if not self._replace(expected, changed):
            raise RegistryChanged(
                "The Feast registry was changed by another process since it was read; that change "
                "stands. Run the command again."
            )
        self._unsure, self._last_known = [], changed.SerializeToString()
        registry_proto.version_id = changed.version_id
        registry_proto.last_updated.CopyFrom(changed.last_updated)

    def _replace(self, expected: list[str], changed: Registry) -> bool:
        """Whether the registry was one of the expected versions, and now is the changed one."""
        now = changed.last_updated.ToDatetime(UTC)
        row = (changed.version_id, changed.SerializeToString(), now)
        with self._postgres.transaction() as connection:
            written = connection.execute(
                "UPDATE feast_registry SET (version_id, contents, updated_timestamp) "
                "= (%s, %s, %s) WHERE version_id = ANY(%s)",
                (*row, expected),
            )
            if written.rowcount == 0 and "" in expected:  # nothing had been there to read
                written = connection.execute(
                    "INSERT INTO feast_registry (version_id, contents, updated_timestamp) "
                    "VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                    row,
                )
            return written.rowcount == 1

    def teardown(self) -> None:
        """Delete the registry."""
        with self._postgres.transaction() as connection:
            connection.execute("DELETE FROM feast_registry")

    def _read(self) -> bytes | None:
        with self._postgres.transaction() as connection:
            row = connection.execute("SELECT contents FROM feast_registry").fetchone()
        return row[0] if row else None


def _correct_ends(
    registry: Registry, ends: Mapping[tuple[str, datetime], datetime], now: datetime
) -> None:
    for view in registry.feature_views:
        intervals = view.meta.materialization_intervals
        for interval in intervals:
            given = interval.end_time.ToDatetime(UTC)
            interval.end_time.FromDatetime(ends.get((view.spec.name, given), given))
        # Another engine than ours does not say how far it came: the next increment does it again.
        passed = [each for each in intervals if each.end_time.ToDatetime(UTC) <= now]
        if len(passed) < len(intervals):
            del intervals[:]
            intervals.extend(passed)


def _keep_serving(registry: Registry) -> None:
    # Feast refuses to read a view while it is being materialized, for ever if that is killed. Our
    # rows are replaced whole, so reads need not wait.
    for view in registry.feature_views:
        if view.meta.state == FeatureViewState.MATERIALIZING.to_proto():
            view.meta.state = FeatureViewState.AVAILABLE_ONLINE.to_proto()
