"""Intervals: their values are those of the textbooks, and they hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from models.evaluation import intervals


@pytest.fixture
def judged(random):
    """Probabilities, some of them equal, and labels drawn with them."""
    p = np.round(random.beta(0.5, 1.5, size=1_500), 2).astype(np.float32)
    return (random.random(1_500) < p).astype(np.int8), p


def test_a_share_of_nothing_found_has_an_upper_end():
    found = intervals.share(0, 10)
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(0.2775, abs=1e-4)  # Wilson's, by hand


def test_shares_hold_the_truth_in_95_of_100_samples(random):
    held = [
        (found := intervals.share(int(k), 60)).low <= 0.15 <= found.high
        for k in random.binomial(60, 0.15, 2_000)
    ]
    assert np.mean(held) == pytest.approx(0.95, abs=0.025)


def test_values_are_those_of_scikit_learn(judged):
    labels, p = judged
    assert intervals.roc_auc(labels, p).value == pytest.approx(sk.roc_auc_score(labels, p))
    area = intervals.average_precision(labels, p).value
    assert area == pytest.approx(sk.average_precision_score(labels, p))
    tn, fp, fn, tp = sk.confusion_matrix(labels, p >= 0.5).ravel()
    assert intervals.f1_score(tp, fp, fn, tn).value == pytest.approx(sk.f1_score(labels, p >= 0.5))


def test_intervals_are_as_wide_as_a_bootstrap_of_the_rows(judged, random):
    labels, p = judged
    drawn = [random.integers(0, len(p), len(p)) for _ in range(400)]
    for name, score in (
        ("roc_auc", sk.roc_auc_score),
        ("average_precision", sk.average_precision_score),
    ):
        found = getattr(intervals, name)(labels, p)
        low, high = np.quantile([score(labels[rows], p[rows]) for rows in drawn], [0.025, 0.975])
        assert found.high - found.low == pytest.approx(high - low, rel=0.2), name
        assert found.low < found.value < found.high


def test_an_area_holds_the_truth_in_95_of_100_small_samples(random):
    held, truth = [], 0.76025  # of two normal distributions one apart: Phi(1 / sqrt 2)
    for _ in range(400):
        labels = np.repeat(np.array([0, 1], dtype=np.int8), [40, 20])
        found = intervals.roc_auc(labels, (random.normal(size=60) + labels).astype(np.float32))
        held.append(found.low <= truth <= found.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.03)


def test_a_perfect_order_is_not_certain():
    labels = np.repeat(np.array([0, 1], dtype=np.int8), [5, 5])
    found = intervals.roc_auc(labels, np.arange(10, dtype=np.float32))
    assert found.value == 1
    assert found.low < 0.8


def test_of_too_few_rows_nothing_is_said():
    labels, p = np.array([1], dtype=np.int8), np.array([0.5], dtype=np.float32)
    assert np.isnan(intervals.roc_auc(labels, p).value)
    assert np.isnan(intervals.mean(np.array([1.0])).low)
    assert np.isnan(intervals.share(0, 0).value)
