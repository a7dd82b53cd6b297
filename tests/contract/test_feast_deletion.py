"""Feast deletes without a question; what serves somebody is not deleted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from feast import FeatureStore
from feast.repo_config import RegistryConfig

from configs.settings import ROOT
from feature_store.errors import VersionInUse
from feature_store.feature_definitions import MODEL_VIEW, USER_ACTIVITY
from feature_store.offline.versions import record_readers
from tests.worlds.feast import CREATED, OBJECTS, REPO, World, foreign_view, make_table

READER = "income-predictor version 3"
FEAST = Path(sys.executable).with_name("feast")


@pytest.fixture(autouse=True)
def _rows(world: World) -> Iterator[None]:
    """Every test starts with the rows that the pipeline wrote, and with what was applied."""
    world.redis.flushdb()
    world.online.write(world.matrix, CREATED)
    yield
    world.feast.apply([world.objects[name] for name in OBJECTS])


@contextmanager
def deployed(world: World, fingerprint: str = MODEL_VIEW.schema.fingerprint) -> Iterator[None]:
    """A deployment that reads a version of the view."""
    for readers in ({READER: fingerprint}, {}):
        with world.offline.postgres.transaction() as connection:
            record_readers(connection, "income-predictor", readers)
        if readers:
            yield


def test_teardown_leaves_what_a_deployment_reads(world: World) -> None:
    before = world.packed_rows()
    with deployed(world), pytest.raises(VersionInUse, match=f"read by {READER}; nothing was"):
        world.feast.teardown()
    assert world.packed_rows() == before
    assert world.feast.get_online_features(world.service, [{"user_id": 1}]).to_dict()["age"]


def test_apply_without_a_view_leaves_what_a_deployment_reads(world: World) -> None:
    before = world.packed_rows()
    with deployed(world), pytest.raises(VersionInUse, match=f"read by {READER}; nothing was"):
        world.feast.apply([], objects_to_delete=[world.view], partial=False)
    assert world.packed_rows() == before
    registered = FeatureStore(repo_path=str(REPO)).list_feature_views()
    assert MODEL_VIEW.name in [view.name for view in registered]


def test_apply_without_another_view_is_no_matter_of_the_deployment(world: World) -> None:
    before = world.packed_rows()
    with deployed(world):
        world.feast.apply([], objects_to_delete=[world.objects["activity"]], partial=False)
    assert world.packed_rows() == before
    registered = [view.name for view in world.feast.list_feature_views()]
    assert MODEL_VIEW.name in registered
    assert USER_ACTIVITY.name not in registered


def test_teardown_deletes_online_rows_that_nobody_reads_and_no_history(world: World) -> None:
    world.feast.teardown()
    assert world.packed_rows() == {}
    [stored] = world.offline.postgres.query(f"SELECT count(*) FROM {MODEL_VIEW.name}").row(0)
    assert stored == len(world.matrix)
    assert world.feast.list_feature_views() == []


def test_whoever_insists_deletes_what_is_read(world: World) -> None:
    online = world.feast.config.online_config | {"delete_what_is_in_use": True}
    with deployed(world):
        world.feast_with(online_store=online).teardown()
    assert world.packed_rows() == {}


def test_rows_of_another_project_are_deleted_though_a_deployment_reads_ours(
    world: World, tmp_path: Path
) -> None:
    before = world.packed_rows()
    registry = RegistryConfig(path=str(tmp_path / "registry.db"))
    elsewhere = world.feast_with(project="elsewhere", registry=registry)
    elsewhere.apply([world.objects[name] for name in OBJECTS])
    with deployed(world):
        elsewhere.teardown()
    assert world.packed_rows() == before


def test_teardown_of_one_project_leaves_the_others_of_its_registry(world: World) -> None:
    elsewhere = world.feast_with(project="elsewhere")
    elsewhere.apply([world.objects["entity"]])
    try:
        with pytest.raises(VersionInUse, match="this one is also that of fti; nothing was deleted"):
            elsewhere.teardown()
        assert FeatureStore(repo_path=str(REPO)).list_feature_views()
    finally:
        elsewhere.registry.delete_project("elsewhere")


def test_teardown_of_a_namesake_of_the_same_project_leaves_our_rows(
    world: World, tmp_path: Path
) -> None:
    before = world.packed_rows()
    make_table(world.offline.postgres, "namesakes", 99)
    registry = RegistryConfig(path=str(tmp_path / "registry.db"))
    namesake = world.feast_with(registry=registry)
    namesake.apply([world.objects["entity"], foreign_view("namesakes", online=False)])
    namesake.teardown()
    assert world.packed_rows() == before


@pytest.mark.full
def test_feasts_command_says_so_in_one_line(world: World, tmp_path: Path) -> None:
    shutil.copy(REPO / "feature_store.yaml", tmp_path)
    with deployed(world):
        done = subprocess.run(
            [str(FEAST), "teardown"],
            cwd=tmp_path,
            env=dict(os.environ, PYTHONPATH=str(ROOT)),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: The online rows of 'user_features' are")
