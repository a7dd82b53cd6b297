"""The statistics give the numbers of published implementations, and react as they must."""

import json
from pathlib import Path

import numpy as np
import pytest

from monitoring.experiments.sequential import (
    asymptotic,
    bernstein,
    effective_events,
    sample_ratio,
    split_effects,
)

PUBLISHED = json.loads((Path(__file__).parent / "reference" / "published.json").read_text())
ALPHA, LOOKS = PUBLISHED["alpha"], PUBLISHED["looks"]


@pytest.mark.parametrize("name", ["smooth", "rare"])
def test_the_bernstein_sequence_is_that_of_confseq(name):
    found = bernstein(np.array(PUBLISHED["losses"][name], dtype=float), ALPHA)
    expected = PUBLISHED["bernstein"][name]

    for ours, theirs in ((found.lower, "lower"), (found.upper, "upper")):
        limits = np.clip(expected[theirs], 0, 1)
        np.testing.assert_allclose(ours[LOOKS], limits, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["smooth", "rare"])
def test_confseqs_own_start_of_the_mean_makes_no_difference_that_lasts(name):
    found = bernstein(np.array(PUBLISHED["losses"][name], dtype=float), ALPHA)
    expected = PUBLISHED["bernstein"][name]

    assert found.lower[LOOKS][-1] == pytest.approx(expected["own_lower"][-1], abs=6e-4)
    assert found.upper[LOOKS][-1] == pytest.approx(expected["own_upper"][-1], abs=6e-4)


def test_the_test_of_the_ratio_is_that_of_ssrm_test():
    expected = PUBLISHED["sample_ratio"]
    champion, challenger = np.cumsum(expected["days"], axis=0).T

    found = sample_ratio(challenger, champion + challenger, expected["share"])

    np.testing.assert_allclose(found, expected["log_e"], rtol=1e-7)


def test_the_asymptotic_sequence_is_that_of_growthbook():
    expected = PUBLISHED["asymptotic"]
    n, spread = expected["n"], np.sqrt(expected["variance"])
    values = np.tile([-spread, spread], n // 2)  # of exactly this variance

    found = asymptotic(values, ALPHA, expected["planned"])

    assert found.upper[-1] == pytest.approx(expected["reach"], rel=1e-9)


def test_many_runs_at_once_are_what_each_is_alone():
    random = np.random.default_rng(1)
    runs = random.random((3, 50))
    arms = random.random(runs.shape) < 0.3

    for statistic in (
        lambda x, _arm: bernstein(x, 0.05).lower,
        lambda x, _arm: asymptotic(x, 0.05, 100).upper,
        lambda x, arm: split_effects(x, arm, np.full(x.shape, 0.3)),
        effective_events,
    ):
        together = statistic(runs, arms)
        alone = [statistic(run, arm) for run, arm in zip(runs, arms, strict=True)]
        np.testing.assert_array_equal(together, alone)


def test_a_scaled_range_scales_the_interval():
    values = np.random.default_rng(2).random(200)

    unit, wide = bernstein(values, 0.05), bernstein(6 * values - 1, 0.05, -1, 5)

    np.testing.assert_allclose(wide.lower, 6 * unit.lower - 1, rtol=1e-9)
    np.testing.assert_allclose(wide.upper, 6 * unit.upper - 1, rtol=1e-9)


def test_a_value_outside_of_its_range_is_a_defect():
    with pytest.raises(ValueError, match=r"lie in \[0.0, 1.5\], not \[0.0, 1.0\]"):
        bernstein(np.array([0.0, 1.5]), 0.05)


def test_the_effect_of_a_split_is_unbiased_when_shares_change():
    random = np.random.default_rng(3)
    share = np.where(np.arange(4_000) < 2_000, 0.05, 0.5)
    runs = (400, 4_000)
    is_challenger = random.random(runs) < share
    # Losses grow with time, and the challenger is worse by 0.02: naive means would be far off.
    drift = np.linspace(0.1, 0.5, 4_000)
    losses = drift + 0.02 * is_challenger + random.normal(0, 0.05, runs)

    effect = split_effects(losses, is_challenger, np.broadcast_to(share, runs)).mean(axis=1)

    standard_error = effect.std() / np.sqrt(len(effect))
    assert abs(effect.mean() - 0.02) < 4 * standard_error
    naive = losses[is_challenger].mean() - losses[~is_challenger].mean()
    assert naive > 0.1


def test_rare_losses_are_worth_their_number():
    losses = np.zeros(10_000)
    losses[::100] = 1

    events = effective_events(losses, np.ones(10_000, dtype=bool))

    assert events[-1] == pytest.approx(100, rel=0.05)
    assert effective_events(np.full(50, 0.3), np.ones(50, dtype=bool))[-1] == 0


def test_without_values_there_is_nothing_to_bound():
    nothing = np.array([])

    assert len(bernstein(nothing, 0.05).lower) == len(asymptotic(nothing, 0.05, 9).lower) == 0
