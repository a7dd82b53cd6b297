"""A thousand tests of equal models, looked at after every unit: how many are decided falsely."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from math import log, sqrt

import numpy as np
import pytest

from models.deployment.plan import ExperimentPlan
from monitoring.experiments.evidence import weigh
from monitoring.experiments.exposures import losses, matured_places
from monitoring.experiments.sequential import (
    Sequence,
    asymptotic,
    bernstein,
    effective_events,
    sample_ratio,
    split_effects,
)
from monitoring.experiments.verdict import Standing, decide
from tests.worlds.experiments import PLAN as PAIRED, START, made_up

ALPHA, RUNS, CHUNK = 0.05, 1_000, 125
PLAN = ExperimentPlan(alpha=ALPHA)
LATER_US = 10**12
LONG_AFTER = Standing(0.5, START, START, START + timedelta(days=30))
Loss = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def at_most(alpha: float, runs: int = RUNS) -> float:
    """What a share of false decisions stays below by chance, but for 1 in 700."""
    return alpha + 3 * sqrt(alpha * (1 - alpha) / runs)


def decided(found: Sequence, value: float = 0.0) -> np.ndarray:
    """Whether the limits leave a value out, after each observation."""
    return (found.lower > value) | (found.upper < value)


def share_of(runs: Callable[[np.random.Generator, tuple[int, int]], np.ndarray], n: int) -> float:
    """Share of runs of n units in which something is so at some time."""
    random = np.random.default_rng(20_260_101)
    some = [runs(random, (CHUNK, n)).any(axis=1) for _ in range(RUNS // CHUNK)]
    return float(np.mean(some))


def equal_models(random: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Probabilities of two models that err as much as each other, and labels."""
    truth = random.beta(0.5, 1.5, shape)
    error = random.normal(0, 0.08, (2, *shape))
    return np.clip(truth + error, 0, 1), (random.random(shape) < truth).astype(float)


@pytest.mark.parametrize("metric", ["brier", "zero_one", "cost", "log_loss"])
def test_equal_models_are_decided_falsely_no_more_than_allowed_in_pairs(metric):
    plan = ExperimentPlan(metric=metric, cost_false_negative=5.0, cost_false_positive=1.0)
    most = {"cost": 5.0, "log_loss": log(100)}.get(metric, 1.0)

    def run(random, shape):
        probabilities, labels = equal_models(random, shape)
        champion, challenger = (losses(plan, p, np.full(shape, 0.5), labels) for p in probabilities)
        return decided(bernstein(challenger - champion, ALPHA, -most, most))

    assert share_of(run, 2_000) <= at_most(ALPHA)


def test_rare_losses_of_equal_models_are_decided_falsely_no_more_than_allowed():
    def run(random, shape):
        champion, challenger = (random.random((2, *shape)) < 0.003).astype(float)
        return decided(bernstein(challenger - champion, ALPHA, -1, 1))

    assert share_of(run, 4_000) <= at_most(ALPHA)


def brier(random, shape):
    (probabilities, _), labels = equal_models(random, shape)
    return np.square(probabilities - labels)


def rare(random, shape):
    return (random.random(shape) < 0.01).astype(float)


def costly(random, shape):
    return np.where(random.random(shape) < 0.01, 1.0, 0.1 * (random.random(shape) < 0.1))


def split_run(random, loss: np.ndarray, share: float) -> Iterator[np.ndarray]:
    arm = random.random(loss.shape) < share
    effects = split_effects(loss, arm, np.full(loss.shape, share))
    yield decided(asymptotic(effects, ALPHA, 10_000))
    events = np.minimum(effective_events(loss, arm), effective_events(loss, ~arm))
    yield events >= PLAN.minimum_events


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("loss", [brier, rare, costly])
def test_equal_models_are_decided_falsely_no_more_than_allowed_by_traffic(loss: Loss, share):
    def run(random, shape):
        is_decided, is_ready = split_run(random, loss(random, shape), share)
        return is_decided & is_ready

    assert share_of(run, 6_000) <= at_most(ALPHA)


def test_without_the_minimum_of_events_rare_losses_would_be_decided_falsely():
    def run(random, shape):
        is_decided, _ = split_run(random, rare(random, shape), 0.1)
        return is_decided

    assert share_of(run, 2_000) > 3 * ALPHA


@pytest.mark.parametrize(("counts_units", "is_right"), [(True, True), (False, False)])
def test_users_who_come_ten_times_count_once(counts_units, is_right):
    def run(random, shape):
        users, visits = shape[1] // 10, 10
        result = []
        for _ in range(shape[0]):
            unit = np.repeat(np.arange(users), visits)
            order = random.permutation(len(unit))
            unit, at = unit[order], np.arange(len(unit))
            arm, label = random.random(users) < 0.5, (random.random(users) < 0.3).astype(float)
            places = np.arange(len(unit))
            if counts_units:
                places = matured_places(unit, at, label[unit], horizon_us=0, now_us=len(unit))
            who = unit[places]
            effects = split_effects(label[who], arm[who], np.full(len(who), 0.5))
            found = decided(asymptotic(effects, ALPHA, 1_000))
            ready = effective_events(label[who], arm[who]) >= PLAN.minimum_events
            result.append([bool((found & ready).any())])
        return np.array(result)

    wrong = share_of(run, 4_000)
    assert (wrong <= at_most(ALPHA)) == is_right, wrong


@pytest.mark.parametrize(("waits", "is_right"), [(True, True), (False, False)])
def test_positives_that_come_late_count_when_all_do(waits, is_right):
    """Two calibrated models of equal loss; one says more, the other less. Labels of 1 are slow."""

    def run(random, shape):
        truth = random.uniform(0.2, 0.8, shape)
        label = (random.random(shape) < truth).astype(float)
        delay = np.where(label == 1, random.integers(0, 900, shape), 0)
        difference = np.square(truth + 0.1 - label) - np.square(truth - 0.1 - label)
        unit = np.arange(shape[1])
        result = []
        for row in range(shape[0]):
            if waits:
                known = np.where(delay[row] <= 1_000, label[row], np.nan)
                places = matured_places(unit, unit, known, horizon_us=1_000, now_us=shape[1])
            else:  # labels as they arrive
                places = np.argsort(unit + delay[row], kind="stable")[:1_000]
            found = bernstein(difference[row, places], ALPHA, -1, 1)
            result.append([bool(decided(found).any())])
        return np.array(result)

    wrong = share_of(run, 2_000)
    assert (wrong <= at_most(ALPHA)) == is_right, wrong
    assert is_right or wrong > 0.9


@pytest.mark.parametrize(("a", "b"), [(0.05, 0.95), (0.3, 3.0), (2.0, 2.0)])
def test_the_bernstein_sequence_holds_the_mean_at_every_look(a, b):
    def run(random, shape):
        return decided(bernstein(random.beta(a, b, shape), ALPHA), a / (a + b))

    assert share_of(run, 2_000) <= at_most(ALPHA)


def test_the_sequence_of_a_split_holds_a_true_difference_at_every_look():
    def run(random, shape):
        arm = random.random(shape) < 0.25
        loss = random.beta(1, 4, shape) + 0.05 * arm
        found = asymptotic(split_effects(loss, arm, np.full(shape, 0.25)), ALPHA, 10_000)
        ready = effective_events(loss, arm) >= PLAN.minimum_events
        return decided(found, 0.05) & ready

    assert share_of(run, 4_000) <= at_most(ALPHA)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_a_right_ratio_is_called_a_mismatch_no_more_than_allowed(share):
    def run(random, shape):
        counts = np.cumsum(random.random(shape) < share, axis=1)
        return sample_ratio(counts, np.arange(1, shape[1] + 1), share) >= -log(0.05)

    assert share_of(run, 4_000) <= at_most(0.05)


def test_a_wrong_ratio_is_found():
    def run(random, shape):
        counts = np.cumsum(random.random(shape) < 0.12, axis=1)
        return sample_ratio(counts, np.arange(1, shape[1] + 1), 0.1) >= -log(0.01)

    assert share_of(run, 10_000) > 0.95


def test_twelve_guardrails_share_one_chance_of_a_false_alarm():
    def run(random, shape):
        harmed = np.zeros(shape, dtype=bool)
        for _ in range(12):
            champion, challenger = (random.random((2, *shape)) < 0.02).astype(float)
            bound = [bernstein(arm, ALPHA / 12) for arm in (champion, challenger)]
            harmed |= bound[1].lower > bound[0].upper
        return harmed

    assert share_of(run, 500) <= at_most(ALPHA)


def test_a_better_model_is_found_and_a_worse_one_too():
    for sign in (-1, 1):

        def run(random, shape, sign=sign):
            (champion, _), labels = equal_models(random, shape)
            noise = random.normal(0, 0.1, shape)
            other = np.clip(champion + noise, 0, 1)
            pair = np.square(other - labels) - np.square(champion - labels)
            found = bernstein(sign * pair, ALPHA, -1, 1)
            return found.lower > 0 if sign > 0 else found.upper < 0

        assert share_of(run, 4_000) > 0.9


def test_a_whole_ramp_raises_a_false_alarm_of_the_ratio_no_more_than_allowed():
    shares, per_phase = (0.05, 0.25, 0.5), 300
    phase = np.repeat(np.arange(len(shares)), per_phase)
    plan, wrong = replace(PAIRED, ratio_alpha=ALPHA), 0
    for run in range(RUNS):
        random = np.random.default_rng(run)
        arms = random.random(len(phase)) < np.array(shares)[phase]
        exposures = made_up(len(phase), seed=run, is_challenger=arms, phase=phase)
        evidence = weigh(exposures, plan, "paired", shares, LATER_US)
        wrong += any(ratio.is_mismatch for ratio in evidence.ratios)

    assert wrong / RUNS <= at_most(ALPHA)


@pytest.mark.parametrize("mode", ["paired", "split"])
def test_a_whole_test_of_equal_models_ends_falsely_no_more_than_its_levels_together(mode):
    """Metric, six guardrails and slices, and both ratios, looked at five times."""
    ended, runs = 0, 500
    for run in range(runs):
        exposures = made_up(1_500, seed=run)
        random = np.random.default_rng(run)
        noise = {name: random.random(1_500) < 0.01 for name in ("is_over_budget", "is_degraded")}
        sex = {"sex": random.integers(0, 2, 1_500)}
        rows = replace(exposures, **noise, slices=sex)
        for n in (100, 300, 600, 1_000, 1_500):
            some = rows.at(np.arange(n))
            evidence = weigh(some, PAIRED, mode, (0.5,), LATER_US, {"sex": ("Female", "Male")})
            if decide(evidence, PAIRED, LONG_AFTER).action in {"rollback", "promote"}:
                ended += 1
                break

    together = PAIRED.alpha + PAIRED.guardrail_alpha + PAIRED.ratio_alpha
    assert ended / runs <= at_most(together, runs)
