"""Differences of two models on the same rows."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models.evaluation.metrics import row_losses
from models.evaluation.paired import METRICS, mean_difference, metric_differences


def test_half_of_all_intervals_of_both_limits_miss_as_often_as_they_may(random):
    # Skewed and heavy-tailed, as differences of log losses are.
    draws = random.standard_t(4, (2_000, 1_000)) * random.gamma(0.5, size=(2_000, 1_000))
    found = [mean_difference(row, 0.95) for row in draws]

    assert np.mean([each.high < 0 for each in found]) == pytest.approx(0.05, abs=0.015)
    assert np.mean([each.low > 0 for each in found]) == pytest.approx(0.05, abs=0.015)


def test_one_row_tells_nothing():
    found = mean_difference(np.array([0.3]), 0.95)
    assert (found.low, found.high) == (-np.inf, np.inf)


def test_the_area_under_the_curve_is_that_of_scikit_learn_ties_included(random):
    labels = random.integers(0, 2, 500).astype(np.int8)
    scores = (random.random(500).astype(np.float32) * 20).round() / 20
    assert METRICS["roc_auc"](labels, scores, 0.5) == pytest.approx(roc_auc_score(labels, scores))


def test_a_better_model_is_better_with_an_interval_that_excludes_none(random):
    labels = random.integers(0, 2, 3_000).astype(np.int8)
    good = np.clip(labels * 0.5 + random.random(3_000) * 0.5, 0.01, 0.99).astype(np.float32)
    poor = np.clip(labels * 0.2 + random.random(3_000) * 0.8, 0.01, 0.99).astype(np.float32)
    found = metric_differences(labels, (poor, 0.5), (good, 0.5))

    for name in ("accuracy_at_threshold", "f1_score", "roc_auc"):
        before, after, difference = found[name]
        assert before < after
        assert 0 < difference.low < difference.mean < difference.high
    assert found["log_loss"][2].high < 0
    same = metric_differences(labels, (good, 0.5), (good, 0.5))
    assert {(d.mean, d.low, d.high) for _, _, d in same.values()} == {(0.0, 0.0, 0.0)}


def test_a_probability_of_one_that_was_wrong_has_a_finite_loss():
    assert row_losses(np.array([0], dtype=np.int8), np.array([1.0], dtype=np.float32))[0] < 17
