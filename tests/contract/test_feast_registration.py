"""What Feast asks of every registry, of its own file and of ours: apply, read, change, delete."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from feast import Entity, FeatureService, FeatureView, Field, FileSource, RequestSource, ValueType
from feast.data_source import DataSource
from feast.errors import (
    ConflictingFeatureViewNames,
    EntityNotFoundException,
    FeatureServiceNotFoundException,
    FeatureViewNotFoundException,
)
from feast.infra.registry.registry import Registry
from feast.on_demand_feature_view import OnDemandFeatureView, on_demand_feature_view
from feast.permissions.action import AuthzedAction
from feast.permissions.permission import Permission
from feast.permissions.policy import RoleBasedPolicy
from feast.project import Project
from feast.repo_config import RegistryConfig
from feast.types import Float32, Int64

OURS = "feature_store.feast_plugin.registry_store.PostgresRegistryStore"
PROJECT, OTHER = "first", "second"
Opened = Callable[[], Registry]


@pytest.fixture(params=["file", "ours"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """Opens the registry as another process would."""
    if request.param == "file":
        config = RegistryConfig(path=str(tmp_path / "registry.db"), cache_ttl_seconds=600)
    else:
        url = request.getfixturevalue("database_url")
        config = RegistryConfig(registry_store_type=OURS, path=url, cache_ttl_seconds=600)
    return lambda: Registry(PROJECT, config, None)


@pytest.fixture
def registry(opened: Opened) -> Iterator[Registry]:
    made = opened()
    yield made
    made.teardown()


def entity(name: str = "driver", **options: Any) -> Entity:
    return Entity(name=name, join_keys=[f"{name}_id"], value_type=ValueType.INT64, **options)


def source(name: str = "drivers") -> DataSource:
    return FileSource(name=name, path=f"/{name}.parquet", timestamp_field="at")


def view(name: str = "stats", **options: Any) -> FeatureView:
    fields = [Field(name="driver_id", dtype=Int64), Field(name="rate", dtype=Float32)]
    given = {"entities": [entity()], "schema": fields, "source": source(), "ttl": timedelta(days=1)}
    return FeatureView(name=name, **(given | options))


def on_demand(name: str = "doubled") -> OnDemandFeatureView:
    request = RequestSource(name="asked", schema=[Field(name="factor", dtype=Int64)])

    def doubled(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"twice": [2 * rate for rate in inputs["rate"]]}

    doubled.__name__ = name
    made: OnDemandFeatureView = on_demand_feature_view(
        sources=[view(), request], schema=[Field(name="twice", dtype=Float32)], mode="python"
    )(doubled)
    return made


def permission() -> Permission:
    policy = RoleBasedPolicy(roles=["reader"])
    return Permission("reading", FeatureView, policy=policy, actions=[AuthzedAction.DESCRIBE])


KINDS: dict[str, Callable[[], Any]] = {
    "entity": entity,
    "data_source": source,
    "feature_view": view,
    "on_demand_feature_view": on_demand,
    "feature_service": lambda: FeatureService(name="all", features=[view()]),
    "permission": permission,
    "project": lambda: Project(name=PROJECT, description="Drivers.", owner="fleet"),
}


def called(kind: str, verb: str) -> str:
    """The method of a registry; on-demand views are applied and deleted as views."""
    of_views = kind == "on_demand_feature_view" and verb in ("apply", "delete")
    return f"{verb}_{'feature_view' if of_views else kind}"


def apply(registry: Registry, kind: str, made: Any, project: str = PROJECT) -> None:
    where = () if kind == "project" else (project,)
    getattr(registry, called(kind, "apply"))(made, *where)


def names(registry: Registry, kind: str, project: str = PROJECT) -> list[str]:
    where = () if kind == "project" else (project,)
    plural = "entities" if kind == "entity" else f"{kind}s"
    return [each.name for each in getattr(registry, f"list_{plural}")(*where)]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_applied_is_there_for_the_next_one_until_it_is_deleted(
    registry: Registry, opened: Opened, kind: str
) -> None:
    made = KINDS[kind]()
    apply(registry, kind, made)
    where = () if kind == "project" else (PROJECT,)
    for each in (registry, opened()):
        found = getattr(each, f"get_{kind}")(made.name, *where)
        assert found == made
        assert names(each, kind) == [made.name]
    getattr(registry, called(kind, "delete"))(made.name, *where)
    assert names(registry, kind) == names(opened(), kind) == []


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"permission"}))
def test_what_is_applied_again_is_changed_and_not_doubled(
    registry: Registry, opened: Opened, kind: str
) -> None:
    made = KINDS[kind]()
    apply(registry, kind, made)
    made.tags = {"team": "fleet"}
    apply(registry, kind, made)
    where = () if kind == "project" else (PROJECT,)
    assert names(opened(), kind) == [made.name]
    assert getattr(opened(), f"get_{kind}")(made.name, *where).tags == {"team": "fleet"}


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"project"}))
def test_projects_of_one_registry_do_not_see_each_other(registry: Registry, kind: str) -> None:
    made = KINDS[kind]()
    apply(registry, kind, made)
    assert names(registry, kind, OTHER) == []
    apply(registry, kind, KINDS[kind](), OTHER)
    getattr(registry, called(kind, "delete"))(made.name, OTHER)
    assert names(registry, kind) == [made.name]


def test_a_project_goes_with_all_that_it_holds_and_no_other_does(registry: Registry) -> None:
    for project in (PROJECT, OTHER):
        registry.apply_project(Project(name=project))
        registry.apply_entity(entity(), project)
        registry.apply_feature_view(view(), project)
    registry.delete_project(PROJECT)
    assert names(registry, "feature_view") == names(registry, "entity") == []
    assert names(registry, "feature_view", OTHER) == ["stats"]
    assert names(registry, "project") == [OTHER]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("entity", EntityNotFoundException),
        ("feature_view", FeatureViewNotFoundException),
        ("feature_service", FeatureServiceNotFoundException),
    ],
)
def test_what_is_not_there_is_named(registry: Registry, kind: str, error: type[Exception]) -> None:
    registry.apply_project(Project(name=PROJECT))
    for verb in ("get", "delete"):
        with pytest.raises(error, match="nowhere"):
            getattr(registry, f"{verb}_{kind}")("nowhere", PROJECT)


def test_views_of_two_kinds_do_not_share_a_name(registry: Registry) -> None:
    registry.apply_feature_view(view("doubled"), PROJECT)
    with pytest.raises(ConflictingFeatureViewNames):
        registry.apply_feature_view(on_demand("doubled"), PROJECT)


def test_what_has_been_materialized_is_remembered(registry: Registry, opened: Opened) -> None:
    registry.apply_feature_view(view(), PROJECT)
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    registry.apply_materialization(registry.get_feature_view("stats", PROJECT), PROJECT, start, end)
    found = opened().get_feature_view("stats", PROJECT)
    assert found.materialization_intervals == [(start, end)]
    assert found.most_recent_end_time == end
    registry.apply_feature_view(view(ttl=timedelta(days=2)), PROJECT)  # keeps what it knows
    assert opened().get_feature_view("stats", PROJECT).materialization_intervals == [(start, end)]
