"""``feast materialize`` for packed views: from table to Redis without one message a value."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from feast.infra.common.materialization_job import MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.local.compute import LocalComputeEngine
from feast.infra.compute_engines.local.job import LocalMaterializationJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel
from tqdm import tqdm

from feature_store.definitions.view import FeatureView
from feature_store.definitions.windowed_view import ActivityView
from feature_store.errors import FeatureStoreError
from feature_store.feast_plugin import activity, connections
from feature_store.feast_plugin.identity import own_view
from feature_store.feast_plugin.online_store import PackedOnlineStore
from feature_store.feast_plugin.registry_store import PostgresRegistryStore
from feature_store.offline.newest_rows import count_entities, events_within, newest_rows
from feature_store.online_store import OnlineStore


class PackedMaterializationEngineConfig(FeastConfigBaseModel):
    """The part ``batch_engine`` of ``feature_store.yaml``."""

    type: str = "feature_store.feast_plugin.batch_engine.PackedMaterializationEngine"


class PackedMaterializationEngine(LocalComputeEngine):
    """Feast's local engine, with a bulk path for our views.

    Ranges are half-open: an event at the very end belongs to the next range. An end that lies ahead
    means now, and now is what our registry notes: the next increment begins there.
    """

    def __init__(self, type: str = "", **options: Any) -> None:  # noqa: A002 - Feast names it
        super().__init__(**options)

    def _materialize_one(
        self, registry: BaseRegistry, task: MaterializationTask, **options: Any
    ) -> LocalMaterializationJob:
        name = f"{task.feature_view.name}-{task.start_time}-{task.end_time}"
        try:
            task = _up_to_now(registry, task, datetime.now(UTC))
        except FeatureStoreError as error:
            return LocalMaterializationJob(name, MaterializationJobStatus.ERROR, error)
        try:
            view = own_view(task.feature_view)
            if view is None or not isinstance(self.online_store, PackedOnlineStore):
                return super()._materialize_one(registry, task, **options)
            if isinstance(view, ActivityView):
                self._rebuild(view, task)
            else:
                target = self.online_store.store(self.repo_config, task.feature_view, writes=True)
                self._write_newest(view, target, task)
        except FeatureStoreError as error:
            return LocalMaterializationJob(name, MaterializationJobStatus.ERROR, error)
        return LocalMaterializationJob(name, MaterializationJobStatus.SUCCEEDED)

    def _write_newest(
        self, view: FeatureView, target: OnlineStore, task: MaterializationTask
    ) -> None:
        """Write the newest row of each entity with an event in the range, block by block."""
        source = connections.offline_store(self.repo_config.offline_store.url)
        version = source.versions.readable(view.schema)
        where = events_within(task.start_time, task.end_time)
        with _progress(task, count_entities(source.postgres, version, where)) as bar:
            for block in newest_rows(source.postgres, version, where):
                target.write(block.matrix, block.created)
                bar.update(len(block))

    def _rebuild(self, view: ActivityView, task: MaterializationTask) -> None:
        """Make the online rows of users with events in the range anew, from all their events."""
        writer, span = activity.writer(self.repo_config, view), (task.start_time, task.end_time)
        with _progress(task, writer.count_users(*span)) as bar:
            writer.rebuild(*span, bar.update)


def _up_to_now(
    registry: BaseRegistry, task: MaterializationTask, now: datetime
) -> MaterializationTask:
    """The task with an end that has come; what lies ahead is written when it has passed."""
    if task.end_time <= now:
        return task
    name, store = task.feature_view.name, getattr(registry, "_registry_store", None)
    if task.start_time >= now:
        raise FeatureStoreError(
            f"'{name}' is to be materialized from {task.start_time.isoformat()} on, which lies "
            "ahead: nothing has happened since. Give a start that has passed: feast materialize "
            "START END."
        )
    if not isinstance(store, PostgresRegistryStore):
        raise FeatureStoreError(
            f"'{name}' is to be materialized until {task.end_time.isoformat()}, which lies ahead, "
            "and this registry would note that all rows until then are written. Give an end that "
            "has passed, or use PostgresRegistryStore."
        )
    store.note_end(name, task.end_time, now)
    return replace(task, end_time=now)


def _progress(task: MaterializationTask, rows: int) -> tqdm[Any]:
    if task.tqdm_builder is None:
        return tqdm(total=rows, disable=True)
    bar: tqdm[Any] = task.tqdm_builder(rows)
    return bar
