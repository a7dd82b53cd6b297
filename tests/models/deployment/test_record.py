import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from configs.settings import load_settings
from models.connect import experiment_plan
from models.deployment.ab_tests import mode_of, override, start_ab_test, widen
from models.deployment.plan import ExperimentPlan
from models.deployment.record import (
    BUCKETS,
    Arm,
    Deployment,
    deploy,
    roll_back,
    stage_changes,
    stage_path,
)
from models.errors import DeploymentRefused

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def arm(version: int) -> Arm:
    return Arm("champion", version, f"xgb-v{version}", f"mlflow-artifacts:/{version}", "d" * 64)


def in_test(share: float = 0.1) -> Deployment:
    return start_ab_test(deploy(None, arm(1), NOW), arm(2), share, "salt", NOW)


def labels(deployment: Deployment) -> list[str]:
    return [each.label for each in deployment.arms]


def test_the_first_deployment_takes_all_traffic():
    deployment = deploy(None, arm(1), NOW, reason="first")

    assert deployment.generation == 1
    assert deployment.champion.share == 1
    assert deployment.challenger is None
    assert deployment.reason == "first"


def test_a_deployment_replaces_the_champion():
    after = deploy(deploy(None, arm(1), NOW), arm(2), NOW)

    assert labels(after) == ["xgb-v2"]
    assert after.generation == 2


def test_a_challenger_takes_its_share_from_the_top():
    champion, challenger = in_test(0.1).arms

    assert (champion.first_bucket, champion.last_bucket) == (0, 9_000)
    assert (challenger.first_bucket, challenger.last_bucket) == (9_000, BUCKETS)
    assert (champion.name, challenger.name) == ("champion", "challenger")
    assert challenger.share == pytest.approx(0.1)


def test_widening_a_test_keeps_its_experiment_and_salt_and_moves_nobody_back():
    narrow = in_test(0.1)
    wide = start_ab_test(narrow, arm(2), 0.3, "another salt", NOW)

    assert (wide.experiment, wide.salt, wide.action) == (narrow.experiment, narrow.salt, "widen")
    assert wide.arms[1].first_bucket < narrow.arms[1].first_bucket
    assert wide.arms[1].last_bucket == narrow.arms[1].last_bucket


def test_two_experiments_hash_with_different_salts():
    first = in_test()
    ended = roll_back([deploy(None, arm(1), NOW), first], NOW)
    second = start_ab_test(ended, arm(3), 0.1, "salt", NOW)

    assert first.salt != second.salt
    assert first.experiment != second.experiment


@pytest.mark.parametrize("share", [0, 1, 0.00001, -0.5, 1.5])
def test_a_share_that_leaves_an_arm_without_traffic_is_refused(share):
    with pytest.raises(DeploymentRefused, match="expected a share between"):
        in_test(share)


def test_one_challenger_at_a_time():
    with pytest.raises(DeploymentRefused, match="xgb-v2 is under test with 10% of the traffic"):
        start_ab_test(in_test(), arm(3), 0.1, "salt", NOW)
    with pytest.raises(DeploymentRefused, match=r"deployment\.py promote, or rollback"):
        deploy(in_test(), arm(3), NOW)


def test_deploying_the_challenger_promotes_it():
    after = deploy(in_test(), arm(2), NOW)

    assert labels(after) == ["xgb-v2"]
    assert after.action == "promote"
    assert after.champion.name == "champion"
    assert after.champion.share == 1
    assert after.experiment is None


def test_rolling_back_returns_to_the_champion_before():
    first = deploy(None, arm(1), NOW)
    second = deploy(first, arm(2), NOW)

    after = roll_back([first, second], NOW)

    assert labels(after) == ["xgb-v1"]
    assert (after.generation, after.action) == (3, "rollback")


def test_rolling_back_twice_goes_further_back():
    history = [deploy(None, arm(1), NOW)]
    history.append(deploy(history[-1], arm(2), NOW))
    history.append(deploy(history[-1], arm(3), NOW))

    history.append(roll_back(history, NOW))
    assert labels(history[-1]) == ["xgb-v2"]
    history.append(roll_back(history, NOW))
    assert labels(history[-1]) == ["xgb-v1"]
    with pytest.raises(DeploymentRefused, match="xgb-v1 is the only champion so far"):
        roll_back(history, NOW)


def test_after_a_rollback_a_new_deployment_can_be_rolled_back_to_what_served():
    history = [deploy(None, arm(1), NOW)]
    history.append(deploy(history[-1], arm(2), NOW))
    history.append(roll_back(history, NOW))
    history.append(deploy(history[-1], arm(3), NOW))

    assert labels(roll_back(history, NOW)) == ["xgb-v1"]


def test_rolling_back_during_a_test_withdraws_the_challenger():
    first = deploy(None, arm(1), NOW)
    second = deploy(first, arm(2), NOW)
    testing = start_ab_test(second, arm(3), 0.1, "salt", NOW)

    after = roll_back([first, second, testing], NOW)

    assert labels(after) == ["xgb-v2"]
    assert (after.champion.share, after.experiment, after.plan) == (1, None, None)
    assert labels(roll_back([first, second, testing, after], NOW)) == ["xgb-v1"]


def test_nothing_deployed_cannot_be_rolled_back():
    with pytest.raises(DeploymentRefused, match="no champion to roll back to"):
        roll_back([], NOW)


def test_a_replaced_champion_is_archived():
    first = deploy(None, arm(1), NOW)

    assert stage_changes(None, first) == {"xgb-v1": "Production"}
    assert stage_changes(first, deploy(first, arm(2), NOW)) == {
        "xgb-v1": "Archived",
        "xgb-v2": "Production",
    }


def test_starting_and_widening_a_test_leave_the_champion_in_production():
    assert stage_changes(deploy(None, arm(1), NOW), in_test()) == {"xgb-v2": "Production"}
    assert stage_changes(in_test(0.1), in_test(0.2)) == {}


@pytest.mark.parametrize(
    ("now", "target", "path"),
    [
        ("None", "Production", ("None", "Staging", "Production")),
        ("Archived", "Production", ("Archived", "Staging", "Production")),
        ("Staging", "Production", ("Staging", "Production")),
        ("None", "Staging", ("None", "Staging")),
        ("Production", "Archived", ("Production", "Archived")),
    ],
)
def test_production_is_reached_through_staging(now, target, path):
    assert stage_path(now, target) == path


def test_a_record_survives_json():
    record = override(in_test(), "42", "challenger", NOW)

    assert Deployment.from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_a_record_from_before_tests_had_plans_can_be_read():
    values = in_test().to_dict()
    for name in ("plan", "overrides"):
        del values[name]

    assert Deployment.from_dict(values).plan is None


def test_a_test_keeps_its_plan_and_mode_while_it_is_widened_and_overruled():
    plan = ExperimentPlan(label_influence=False, ramp=(0.01, 0.1, 0.5), margin=0.004)
    started = start_ab_test(deploy(None, arm(1), NOW), arm(2), 0.01, "salt", NOW, plan=plan)
    wide = widen(override(started, "42", "challenger", NOW), 0.1, NOW)

    assert started.plan == replace(plan, ramp=(0.1, 0.5))
    assert wide.plan == replace(plan, ramp=(0.5,))
    assert (wide.mode, wide.overrides) == ("paired", (("42", "challenger"),))
    assert (wide.salt, wide.experiment) == (started.salt, started.experiment)


def test_a_share_never_shrinks():
    with pytest.raises(DeploymentRefused, match=r"xgb-v2 has 10\.00% .* would move users back"):
        widen(in_test(0.1), 0.05, NOW)


def test_an_override_can_be_taken_back():
    overruled = override(in_test(), "42", "challenger", NOW)
    moved = override(overruled, "42", "champion", NOW)

    assert moved.overrides == (("42", "champion"),)
    assert override(moved, "42", None, NOW).overrides == ()


def test_without_a_test_nothing_is_widened_or_overruled():
    champion = deploy(None, arm(1), NOW)

    for change in (lambda: widen(champion, 0.5, NOW), lambda: override(champion, "1", None, NOW)):
        with pytest.raises(DeploymentRefused, match="No A/B test is running"):
            change()


def test_a_test_is_paired_only_where_labels_and_features_allow_it():
    free, bound = ExperimentPlan(label_influence=False), ExperimentPlan(label_influence=True)
    other = replace(arm(2), fingerprint="other")

    assert mode_of(arm(1), arm(2), free, None) == "paired"
    assert mode_of(arm(1), arm(2), free, "split") == "split"
    assert mode_of(arm(1), arm(2), bound, None) == "split"
    assert mode_of(arm(1), other, free, None) == "split"
    with pytest.raises(DeploymentRefused, match="cannot be paired: an answer may influence"):
        mode_of(arm(1), arm(2), bound, "paired")
    with pytest.raises(DeploymentRefused, match="cannot be paired: the two versions take"):
        mode_of(arm(1), other, free, "paired")


def test_the_plan_of_a_test_is_what_the_settings_say():
    worth = {"cost_false_positive": 2.0, "cost_false_negative": 7.0}
    settings = load_settings(training={"decision": worth})
    plan, climbing = experiment_plan(settings), experiment_plan(settings, ramp=True)

    assert (plan.cost_false_positive, plan.cost_false_negative) == (2.0, 7.0)
    assert (plan.metric, plan.label_influence, plan.slices) == ("brier", False, ("sex",))
    assert (plan.ramp, climbing.ramp) == ((), (0.01, 0.05, 0.10, 0.25, 0.50))
