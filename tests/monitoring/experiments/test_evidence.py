"""What exposures amount to, and what that calls for."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, strategies as st

from models.deployment.plan import ExperimentPlan
from monitoring.experiments.evidence import weigh
from monitoring.experiments.exposures import largest_loss, losses, matured_places
from monitoring.experiments.verdict import Standing, decide
from tests.worlds.experiments import HOUR, PLAN, START, made_up

LATER_US = 10**12
LONG_AFTER = Standing(0.5, START, START, START + timedelta(days=30))
SPLIT = replace(PLAN, label_influence=True)


def verdict(exposures, plan=PLAN, mode="paired", shares=(0.5,), standing=LONG_AFTER, **kwargs):
    return decide(weigh(exposures, plan, mode, shares, LATER_US, **kwargs), plan, standing)


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 30), st.sampled_from([0.0, 1.0, np.nan])),
        max_size=40,
    ),
    st.integers(0, 20),
    st.integers(0, 60),
)
def test_each_unit_counts_at_its_first_matured_exposure_with_a_label(rows, horizon, now):
    rows = sorted(rows, key=lambda row: row[1])
    expected, seen = [], set()
    for place, (unit, at, label) in enumerate(rows):
        if at + horizon <= now and label == label and unit not in seen:
            seen.add(unit)
            expected.append(place)
    unit, at, label = (np.array([row[i] for row in rows]) for i in range(3))

    found = matured_places(unit.astype(int), at.astype(int), label.astype(float), horizon, now)

    assert found.tolist() == expected


def test_losses_are_what_the_metrics_say():
    p, label = np.array([0.9, 0.9, 0.2, 0.2]), np.array([1.0, 0.0, 1.0, 0.0])
    thresholds = np.full(4, 0.5)

    def lost(**plan):
        return losses(ExperimentPlan(**plan), p, thresholds, label).round(4).tolist()

    assert lost(metric="brier") == [0.01, 0.81, 0.64, 0.04]
    assert lost(metric="zero_one") == [0, 1, 1, 0]
    assert lost(metric="cost", cost_false_positive=2, cost_false_negative=7) == [0, 2, 7, 0]
    assert lost(metric="log_loss") == pytest.approx(-np.log([0.9, 0.1, 0.2, 0.8]), abs=1e-4)
    sure = losses(ExperimentPlan(metric="log_loss"), np.array([0.0]), thresholds[:1], label[:1])
    assert sure == pytest.approx(largest_loss(ExperimentPlan(metric="log_loss")))


@pytest.mark.parametrize("metric", ["brier", "zero_one", "cost", "log_loss"])
@pytest.mark.parametrize("mode", ["paired", "split"])
def test_what_is_much_better_is_promoted_and_what_is_much_worse_rolled_back(metric, mode):
    plan = replace(PLAN, metric=metric, cost_false_negative=3.0, calibration_margin=1.0)
    worse = made_up(6_000, worse=-0.6)
    # The same with the arms changed places.
    better = replace(
        worse, probability=worse.probability[:, ::-1], is_challenger=~worse.is_challenger
    )

    assert verdict(worse, plan, mode).action == "rollback"
    assert verdict(worse, plan, mode).reason.startswith(f"the challenger is worse: {metric} +")
    assert verdict(better, plan, mode).action == "promote"


def test_equal_models_stay_undecided():
    found = verdict(made_up(5_000))

    assert found.action == "continue"
    assert found.reason.startswith("undecided: brier ")


def test_what_has_not_matured_does_not_count():
    exposures = made_up(1_000)
    horizon_us = round(PLAN.label_horizon_s * 1e6)

    evidence = weigh(exposures, PLAN, "paired", (0.5,), horizon_us + 99 * 1_000_000)

    assert (evidence.units, evidence.counted, evidence.primary.n) == (1_000, 100, 100)


def test_nothing_is_promoted_before_the_minimum_of_time():
    better = made_up(3_000)
    better.probability[:, 0] = 0.5
    soon = replace(LONG_AFTER, now=START + HOUR)

    found = verdict(better, standing=soon)

    assert found.action == "continue"
    assert found.reason.startswith("the challenger is better: ")
    assert found.reason.endswith("but it must run for 82,800 s more")
    assert verdict(better).action == "promote"


def test_a_mismatch_ends_the_test_whatever_the_metric_says():
    better = made_up(4_000, share=0.4)
    better.probability[:, 0] = 0.5

    found = verdict(better)

    assert found.action == "rollback"
    assert found.reason.startswith("sample ratio mismatch among exposed units of phase 1: ")


def test_labels_that_are_lost_on_one_side_are_a_mismatch_too():
    exposures = made_up(4_000)
    random = np.random.default_rng(5)
    exposures.label[exposures.is_challenger & (random.random(4_000) < 0.3)] = np.nan

    assert "mismatch among labelled units" in verdict(exposures).reason


def test_each_phase_of_a_ramp_is_held_against_its_own_share():
    random = np.random.default_rng(4)
    phase = np.repeat([0, 1], 2_000)
    arms = random.random(4_000) < np.array([0.05, 0.5])[phase]
    exposures = made_up(4_000, is_challenger=arms, phase=phase)

    assert verdict(exposures, shares=(0.05, 0.5)).action == "continue"
    assert "of phase 1" in verdict(exposures, shares=(0.1, 0.5)).reason
    assert "of phase 2" in verdict(exposures, shares=(0.05, 0.4)).reason


def test_too_few_events_decide_nothing_in_a_split():
    exposures = made_up(4_000, share=0.5)
    exposures.probability[:] = 0.0
    exposures.label[:] = 0.0
    exposures.label[np.flatnonzero(exposures.is_challenger)[:30]] = 1.0

    found = verdict(exposures, replace(SPLIT, calibration_margin=1.0), "split")

    assert found.action == "continue"
    assert found.reason == "too few events for a decision (0 in the smaller arm)"


@pytest.mark.parametrize("name", ["over_budget", "degraded", "error"])
def test_a_guardrail_that_is_crossed_ends_the_test(name):
    column = {"error": "is_failed"}.get(name, f"is_{name}")
    exposures = made_up(2_000)
    bad = exposures.is_challenger & (np.arange(2_000) % 5 == 0)

    found = verdict(replace(exposures, **{column: bad}))

    assert found.action == "rollback"
    assert found.reason.startswith(f"guardrail {name}: challenger at least 0.")


def test_a_challenger_whose_probabilities_are_too_high_ends_the_test():
    exposures = made_up(3_000)
    exposures.probability[:, 1] = np.clip(exposures.probability[:, 1] + 0.15, 0, 1)
    plan = replace(PLAN, metric="zero_one", objective="non_inferiority", margin=0.9)

    assert verdict(exposures, plan).reason.startswith("guardrail calibration: ")


def test_a_slice_vetoes_a_promotion_and_does_not_end_the_test():
    exposures = made_up(4_000)
    exposures.probability[:, 0] = 0.5
    small = np.arange(4_000) % 10 == 0
    right = 0.1 + 0.8 * exposures.label
    exposures.probability[:, 1] = np.where(small, 1 - right, right)
    sliced = replace(exposures, slices={"sex": np.where(small, 0, 1)})
    words = {"sex": ("Female", "Male")}
    plan = replace(PLAN, calibration_margin=1.0)

    found = verdict(sliced, plan, words=words)

    assert found.action == "continue"
    assert "but a slice objects: sex=Female: " in found.reason
    few = replace(plan, slice_minimum=401)
    assert verdict(sliced, few, words=words).action == "promote"


def test_non_inferiority_promotes_what_is_worse_by_less_than_the_margin():
    equal = made_up(6_000)
    plan = replace(PLAN, objective="non_inferiority", margin=0.01)

    assert verdict(equal, plan).reason.startswith("the challenger is no worse: ")
    assert verdict(equal, replace(plan, margin=1e-6)).action == "continue"


def test_a_ramp_goes_on_when_its_step_has_lasted_and_nothing_objects():
    plan = replace(PLAN, ramp=(0.5, 0.9), ramp_step_s=3_600)
    standing = Standing(0.1, START, START, START + HOUR)
    exposures = made_up(500, share=0.1)

    found = verdict(exposures, plan, shares=(0.1,), standing=standing)
    assert (found.action, found.share) == ("ramp", 0.5)

    soon = replace(standing, now=START + HOUR / 2)
    assert verdict(exposures, plan, shares=(0.1,), standing=soon).action == "continue"
    late = exposures.is_challenger & (np.arange(500) % 9 == 0)
    slow = replace(exposures, is_over_budget=late)
    assert verdict(slow, plan, shares=(0.1,), standing=standing).action == "continue"


def test_where_the_challenger_could_not_score_the_pair_does_not_count():
    exposures = made_up(100)
    exposures.probability[:10, 1] = np.nan

    evidence = weigh(exposures, PLAN, "paired", (0.5,), LATER_US)

    assert (evidence.counted, evidence.primary.n) == (100, 90)


def test_nothing_at_all_is_no_evidence_and_no_failure():
    nobody = made_up(0, slices={"sex": np.array([], dtype=int)})
    evidence = weigh(nobody, PLAN, "paired", (0.5,), LATER_US, {"sex": ("Female", "Male")})

    assert (evidence.primary, evidence.guardrails, evidence.slices) == (None, (), ())
    found = decide(evidence, PLAN, LONG_AFTER)
    assert (found.action, found.reason) == (
        "continue",
        "no unit of 0 has a matured label yet",
    )
