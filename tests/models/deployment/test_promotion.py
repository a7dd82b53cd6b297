from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest

from infrastructure import embedded
from models.deployment.plan import ExperimentPlan
from models.deployment.promotion import Promoter, as_arm
from models.deployment.store import DeploymentStore
from models.errors import ArtifactError, DeploymentConflict, DeploymentRefused, RegistryUnavailable
from tests.worlds.registry import EverybodyPasses, Registry

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def registry():
    return Registry(3)


@pytest.fixture
def promoter(registry, settings):
    url = embedded.postgres_url(settings)
    store = DeploymentStore(lambda: psycopg.connect(url), f"model-{uuid4()}")
    yield Promoter(registry, store, EverybodyPasses(), lambda: NOW)
    store.close()


def serving(promoter) -> list[str]:
    current = promoter.store.current()
    return [arm.label for arm in current.arms] if current else []


def test_the_first_version_takes_all_traffic_even_when_a_test_is_asked_for(promoter, registry):
    record = promoter.start_ab_test(registry.version(1), 0.1, "salt")

    assert record.challenger is None
    assert registry.stages["income-xgb-v1"] == "Production"
    assert registry.aliases == {"production": "income-xgb-v1"}


def test_a_deployment_archives_the_champion_that_it_replaces(promoter, registry):
    promoter.deploy(registry.version(1))
    promoter.deploy(registry.version(2), reason="better")

    assert registry.stages == {
        "income-xgb-v1": "Archived",
        "income-xgb-v2": "Production",
        "income-xgb-v3": "None",
    }
    assert registry.aliases == {"production": "income-xgb-v2"}
    changes = promoter.store.stage_history()
    assert [(c.label, c.path, c.reason) for c in changes] == [
        ("income-xgb-v1", ("None", "Staging", "Production"), ""),
        ("income-xgb-v1", ("Production", "Archived"), "better"),
        ("income-xgb-v2", ("None", "Staging", "Production"), "better"),
    ]


def test_what_cannot_be_kept_in_the_mirror_is_not_deployed(promoter, registry):
    kept: list[str] = []

    def keep(arm):
        if arm.label == "income-xgb-v2":
            raise ArtifactError("the mirror is full")
        kept.append(arm.label)

    careful = replace(promoter, keep=keep)
    careful.deploy(registry.version(1))
    with pytest.raises(ArtifactError, match="the mirror is full"):
        careful.deploy(registry.version(2))

    assert kept == ["income-xgb-v1"]
    assert serving(promoter) == ["income-xgb-v1"]
    assert registry.stages["income-xgb-v2"] == "None"


def test_deploying_what_is_deployed_changes_nothing(promoter, registry):
    promoter.deploy(registry.version(1))

    assert promoter.deploy(registry.version(1)) is None
    assert promoter.start_ab_test(registry.version(1), 0.1, "salt") is None
    assert promoter.store.generation() == 1


def test_a_test_that_runs_already_is_not_started_again_but_widened(promoter, registry):
    promoter.deploy(registry.version(1))
    promoter.start_ab_test(registry.version(2), 0.1, "salt")

    assert promoter.start_ab_test(registry.version(2), 0.1, "salt") is None
    assert promoter.start_ab_test(registry.version(2), 0.2, "salt").action == "widen"


def test_a_test_ends_with_the_challenger_promoted_or_withdrawn(promoter, registry):
    promoter.deploy(registry.version(1))
    promoter.start_ab_test(registry.version(2), 0.1, "salt")
    assert registry.aliases == {"production": "income-xgb-v1", "challenger": "income-xgb-v2"}
    promoter.promote_challenger()
    assert registry.aliases == {"production": "income-xgb-v2"}
    promoter.start_ab_test(registry.version(3), 0.1, "salt")
    promoter.roll_back()

    assert serving(promoter) == ["income-xgb-v2"]
    assert registry.stages == {
        "income-xgb-v1": "Archived",
        "income-xgb-v2": "Production",
        "income-xgb-v3": "Archived",
    }


def test_without_a_test_there_is_nothing_to_end(promoter, registry):
    promoter.deploy(registry.version(1))

    for end in (promoter.promote_challenger, lambda: promoter.roll_back(experiment="gone")):
        with pytest.raises(DeploymentRefused, match=r"No A/B test is running\. Start one with"):
            end()


def test_who_means_another_test_changes_nothing(promoter, registry):
    promoter.deploy(registry.version(1))
    first = promoter.start_ab_test(registry.version(2), 0.1, "salt").experiment
    promoter.roll_back()
    promoter.start_ab_test(registry.version(3), 0.1, "salt")

    for change in (
        lambda: promoter.promote_challenger(experiment=first),
        lambda: promoter.roll_back(experiment=first),
        lambda: promoter.widen(0.5, experiment=first),
    ):
        with pytest.raises(DeploymentRefused, match=f"{first} has ended; income-xgb-v3-vs-"):
            change()
    assert serving(promoter) == ["income-xgb-v1", "income-xgb-v3"]


def test_plan_overrides_and_mode_are_stored_with_the_test(promoter, registry):
    plan = ExperimentPlan(label_influence=False, ramp=(0.1, 0.5), slices=("sex",))
    promoter.deploy(registry.version(1))
    promoter.start_ab_test(registry.version(2), 0.1, "salt", plan=plan)
    promoter.override("42", "challenger", "quality assurance")
    promoter.widen(0.5)

    stored = promoter.store.current()
    assert stored.plan == replace(plan, ramp=())
    assert (stored.mode, stored.overrides) == ("paired", (("42", "challenger"),))
    assert [each.action for each in promoter.store.history()] == [
        *("deploy", "start_ab_test", "override", "widen")
    ]


def test_a_rollback_brings_the_champion_before_back_to_production(promoter, registry):
    promoter.deploy(registry.version(1))
    promoter.deploy(registry.version(2))
    promoter.roll_back()

    assert serving(promoter) == ["income-xgb-v1"]
    assert registry.stages["income-xgb-v1"] == "Production"
    assert registry.stages["income-xgb-v2"] == "Archived"
    assert registry.aliases == {"production": "income-xgb-v1"}


def test_a_version_is_staged_without_serving(promoter, registry):
    assert promoter.set_stage(registry.version(1), "Staging") is True
    assert promoter.set_stage(registry.version(1), "Staging") is False

    assert (registry.stages["income-xgb-v1"], serving(promoter)) == ("Staging", [])
    promoter.deploy(registry.version(1))
    assert promoter.store.stage_history()[-1].path == ("Staging", "Production")


def test_what_serves_cannot_be_archived(promoter, registry):
    promoter.deploy(registry.version(1))

    with pytest.raises(DeploymentRefused, match="serves in production and cannot become archived"):
        promoter.set_stage(registry.version(1), "Archived")


@pytest.mark.parametrize("changes", [1, 2, 3, 4])
def test_a_registry_that_goes_away_half_way_changes_nothing(promoter, registry, changes):
    promoter.deploy(registry.version(1))
    before = dict(registry.stages), dict(registry.aliases), promoter.store.stage_history()
    registry.changes_left = changes

    with pytest.raises(RegistryUnavailable):
        promoter.deploy(registry.version(2))

    assert (registry.stages, registry.aliases, promoter.store.stage_history()) == before
    assert serving(promoter) == ["income-xgb-v1"]


def test_of_two_who_deploy_on_the_same_knowledge_the_second_is_told(promoter, registry):
    promoter.deploy(registry.version(1))
    current = promoter.store.current()
    promoter.deploy(registry.version(2))

    class Outdated:
        """A store whose reader has fallen behind."""

        def __getattr__(self, name):
            return (lambda: current) if name == "current" else getattr(promoter.store, name)

    late = replace(promoter, store=Outdated())
    with pytest.raises(DeploymentConflict, match="Somebody else deployed meanwhile"):
        late.deploy(registry.version(3))
    assert serving(promoter) == ["income-xgb-v2"]
    assert registry.stages["income-xgb-v3"] == "None"


def test_an_arm_names_what_must_be_fetched(registry):
    arm = as_arm(registry.version(2))

    assert (arm.label, arm.version, arm.digest) == ("income-xgb-v2", 2, "d" * 64)
    assert arm.artifact_uri == "mlflow-artifacts:/income-xgb-v2"


def test_what_serves_is_known_to_the_feature_store_as_a_reader(promoter, registry):
    def readers() -> dict[str, str]:
        with promoter.store.connect() as connection:
            return dict(
                connection.execute(
                    "SELECT reader, fingerprint FROM feature_view_readers WHERE owner = %s",
                    (f"model {promoter.store.model_name}",),
                ).fetchall()
            )

    promoter.deploy(registry.version(1))
    promoter.start_ab_test(registry.version(2), 0.1, "salt")
    assert readers() == {"income-xgb-v1": "f", "income-xgb-v2": "f"}
    promoter.promote_challenger()
    assert readers() == {"income-xgb-v2": "f"}
