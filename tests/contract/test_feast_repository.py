"""The Feast repository works in a plain shell, and its registry loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from feast import FeatureStore
from feast.protos.feast.core.Registry_pb2 import Registry

from configs.settings import Settings, load_settings
from feature_store.errors import RegistryChanged, StoreUnavailable
from feature_store.feast_plugin.registry_store import PostgresRegistryStore
from feature_store.feature_definitions import MODEL_VIEW, VIEWS
from feature_store.offline.postgres import Postgres
from tests.worlds.feast import OBJECTS, REPO, World

FEAST = Path(sys.executable).with_name("feast")
PLAIN = ("PATH", "HOME", "PYTHONPATH")  # the last one only where another checkout is installed


def feast(*arguments: str, var_dir: Path) -> subprocess.CompletedProcess[str]:
    """Run Feast's command in the repository, as a user would in a plain shell."""
    plain = {name: os.environ[name] for name in PLAIN if name in os.environ}
    return subprocess.run(
        [str(FEAST), *arguments],
        cwd=REPO,
        # The only variable keeps the test out of the checkout's own data.
        env=plain | {"FTI_VAR_DIR": str(var_dir)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_feast_apply_works_in_a_plain_shell(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied = feast("apply", var_dir=settings.var_dir)
    assert applied.returncode == 0, applied.stderr
    assert "Deploying infrastructure for user_features" in applied.stdout
    said = [line for line in applied.stderr.splitlines() if "warn" not in line.lower()]
    assert said == []  # Feast warns that on-demand views are experimental
    monkeypatch.setenv("FTI_VAR_DIR", str(settings.var_dir))
    store = FeatureStore(repo_path=str(REPO))
    views = {view.name: view for view in store.list_feature_views()}
    for view in VIEWS:
        assert [field.name for field in views[view.name].features] == list(view.schema.names)
    services = sorted(service.name for service in store.list_feature_services())
    assert services == [settings.model_name, f"{settings.model_name}_on_request"]


def test_feast_objects_are_derived_from_the_definitions(world: World) -> None:
    view = world.feast.get_feature_view(MODEL_VIEW.name)
    fields = {field.name: field for field in view.features}
    assert list(fields) == list(MODEL_VIEW.schema.names)
    for feature in MODEL_VIEW.schema.features:
        field = fields[feature.name]
        assert field.description == feature.description
        assert field.tags["team"] == "ml-platform"
        assert field.tags.get("protected") == ("true" if feature.protected else None)
    assert {fields[name].dtype.name for name in ("age", "sex", "capital_gain_log")} == {
        "INT64",
        "STRING",
        "FLOAT32",
    }
    assert view.owner == "ml-platform"
    assert view.tags["schema_fingerprint"] == MODEL_VIEW.schema.fingerprint
    assert world.feast.get_entity("user_id").owner == "ml-platform"


def test_the_repository_and_the_settings_name_the_same_project(world: World) -> None:
    assert world.feast.project == load_settings().feature.project


def test_applying_again_changes_nothing_in_the_stores(world: World) -> None:
    before = world.packed_rows()
    world.feast.apply([world.objects[name] for name in OBJECTS])
    assert world.packed_rows() == before


def test_of_two_writers_of_the_registry_the_second_is_told(world: World) -> None:
    config = world.feast.config.registry
    first, second = PostgresRegistryStore(config, None), PostgresRegistryStore(config, None)
    early, late = first.get_registry_proto(), second.get_registry_proto()
    first.update_registry_proto(early)
    with pytest.raises(RegistryChanged, match="Run the command again"):
        second.update_registry_proto(late)
    assert second.get_registry_proto().version_id == early.version_id
    second.update_registry_proto(second.get_registry_proto())


def test_a_change_of_which_nobody_knows_whether_it_was_kept_can_be_made_again(
    world: World,
) -> None:
    store = PostgresRegistryStore(world.feast.config.registry, None)
    registry = store.get_registry_proto()
    before, replace = registry.version_id, store._replace

    def lose_the_answer(expected: list[str], changed: Registry) -> bool:
        assert replace(expected, changed)
        raise StoreUnavailable("the connection was lost")

    store._replace = lose_the_answer
    with pytest.raises(StoreUnavailable):
        store.update_registry_proto(registry)
    assert registry.version_id == before
    store._replace = replace
    store.update_registry_proto(registry)
    assert store.get_registry_proto().version_id == registry.version_id != before


def test_while_postgresql_is_away_readers_keep_the_registry_that_they_know(world: World) -> None:
    store = PostgresRegistryStore(world.feast.config.registry, None)
    known = store.get_registry_proto()
    store._postgres = Postgres("postgresql://127.0.0.1:1/nowhere")
    assert store.get_registry_proto() == known
    with pytest.raises(StoreUnavailable, match="PostgreSQL refused or went away"):
        store.update_registry_proto(known)


def test_a_view_goes_on_serving_while_it_is_materialized(world: World) -> None:
    feast = FeatureStore(repo_path=str(REPO))
    view = feast.get_feature_view(MODEL_VIEW.name)
    view.state = type(view.state).MATERIALIZING
    feast.registry.apply_feature_view(view, feast.project, commit=True)
    other = FeatureStore(repo_path=str(REPO))
    answer = other.get_online_features(["user_features:age"], [{"user_id": 1}])
    assert answer.to_dict()["age"] == [50]
