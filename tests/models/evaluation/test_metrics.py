"""Metrics, threshold and masked metrics."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn import metrics as sk

from configs.training_config import DecisionConfig
from models.errors import TrainingRefused
from models.evaluation import metrics as evaluation


@pytest.fixture
def calibrated(random):
    """Probabilities and labels drawn with them."""
    probabilities = random.beta(0.5, 1.5, size=20_000).astype(np.float32)
    return (random.random(20_000) < probabilities).astype(np.int8), probabilities


def by_hand(labels, p):
    """The expected calibration error over fifteen bins of equal width, bin by bin."""
    edges = np.linspace(0, 1, 16)
    rows = [(p >= low) & (p < high) for low, high in itertools.pairwise(edges)]
    return sum(abs(p[r].mean() - labels[r].mean()) * r.mean() for r in rows if r.any())


def test_metrics_are_those_of_scikit_learn(calibrated):
    labels, p = calibrated
    found = evaluation.metrics(labels, p, threshold=0.4)
    decided = p >= 0.4
    expected = {
        "accuracy": sk.accuracy_score(labels, p >= 0.5),
        "accuracy_at_threshold": sk.accuracy_score(labels, decided),
        "f1_score": sk.f1_score(labels, decided),
        "f1_score_at_half": sk.f1_score(labels, p >= 0.5),
        "precision": sk.precision_score(labels, decided),
        "recall": sk.recall_score(labels, decided),
        "roc_auc": sk.roc_auc_score(labels, p),
        "pr_auc": sk.average_precision_score(labels, p),
        "log_loss": sk.log_loss(labels, p.astype(np.float64)),
        "brier": sk.brier_score_loss(labels, p),
        "threshold": 0.4,
        "ece": by_hand(labels, p),
    }
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_certain_and_wrong_probability_costs_much_but_not_everything():
    labels, certain = np.array([0, 1], dtype=np.int8), np.array([1, 0], dtype=np.float32)
    assert evaluation.log_loss(labels, certain) == pytest.approx(-np.log(1e-7), rel=1e-3)


@pytest.mark.parametrize(("objective", "best"), [("accuracy", 0.5), ("f1", 0.31)])
def test_the_threshold_of_calibrated_probabilities_is_the_known_one(calibrated, objective, best):
    # Calibrated: accuracy is best at 1/2, F1 at half the F1 that is reached (Lipton et al. 2014).
    labels, p = calibrated
    found = evaluation.choose_threshold(labels, p, objective)
    assert found == pytest.approx(best, abs=0.05)
    if objective == "f1":
        assert found == pytest.approx(sk.f1_score(labels, p >= found) / 2, abs=0.05)


def test_the_balanced_threshold_lies_between_the_other_two(calibrated):
    f1, balanced, accuracy = (
        evaluation.choose_threshold(*calibrated, objective)
        for objective in ("f1", "balanced", "accuracy")
    )
    assert f1 < balanced < accuracy


def test_the_threshold_of_costs_is_their_ratio(calibrated):
    # Calibrated: to say 1 pays from p = cost of a false positive by the sum of both costs on.
    decision = DecisionConfig(cost_false_positive=1, cost_false_negative=4)
    found = evaluation.choose_threshold(*calibrated, "cost", decision)
    assert found == pytest.approx(1 / 5, abs=0.04)


@pytest.mark.parametrize("target", [0.6, 0.8])
def test_a_target_precision_is_reached_and_no_more(calibrated, target):
    labels, p = calibrated
    decision = DecisionConfig(target_precision=target)
    found = evaluation.choose_threshold(labels, p, "precision", decision)
    assert sk.precision_score(labels, p >= found) == pytest.approx(target, abs=0.03)


def test_a_precision_out_of_reach_gives_the_nearest(random):
    labels = (random.random(2_000) < 0.3).astype(np.int8)
    p = random.random(2_000).astype(np.float32)
    decision = DecisionConfig(target_precision=0.99)
    assert 0 < evaluation.choose_threshold(labels, p, "precision", decision) < 1


def test_the_threshold_lies_between_two_probabilities(calibrated):
    labels, p = calibrated
    assert np.float32(evaluation.choose_threshold(labels, p)) not in set(p.tolist())


@pytest.mark.parametrize(
    ("labels", "found"), [([], "no rows"), ([0, 0], "2 rows, all with label 0")]
)
def test_rows_of_one_label_cannot_be_judged(labels, found):
    labels = np.array(labels, dtype=np.int8)
    with pytest.raises(TrainingRefused, match=found):
        evaluation.metrics(labels, np.full(len(labels), 0.5, dtype=np.float32), 0.5)


def test_a_model_trained_with_masked_rows_stays_sensible_without_attributes(trained):
    found = trained.metrics
    base_rate = found["log_loss_base_rate"]
    assert found["log_loss_all_missing"] == pytest.approx(base_rate, abs=0.05)
    assert found["log_loss"] < found["log_loss_request_attributes"] < base_rate


def test_a_model_trained_on_complete_rows_only_does_not(split, masker, training):
    from models.families import new_model
    from models.training.fit import fit, held_out_metrics

    unmasked = training.model_copy(
        update={"masking": training.masking.model_copy(update={"copies": 0})}
    )
    model = fit(new_model(unmasked), split, masker, unmasked)
    found = held_out_metrics(model, split.test, masker, unmasked)
    assert found["log_loss_request_attributes"] > found["log_loss_base_rate"]
