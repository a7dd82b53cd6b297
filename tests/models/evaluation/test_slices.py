"""Slices and fairness: every number again by hand, on real rows."""

from __future__ import annotations

import numpy as np
import pytest
from fairlearn import metrics as fl
from sklearn.metrics import roc_auc_score

from models.errors import TrainingRefused
from models.evaluation.fairness import fairness
from models.evaluation.slices import slices, words_of

BY = ("sex", "race", "age_band", "education_group", "country_region")


@pytest.fixture
def judged(trained, split):
    test = split.test
    return test.features, test.labels, trained.model.predict_proba(test.features), 0.4


def test_every_row_is_in_one_slice_of_each_attribute(judged):
    found = slices(*judged, BY, 50)
    assert {each.by for each in found} == set(BY)
    for by in BY:
        assert sum(each.n for each in found if each.by == by) == len(judged[1])


def test_a_slice_has_the_metrics_of_its_rows(judged):
    matrix, labels, p, threshold = judged
    rows = words_of(matrix, "sex") == "Female"
    [women] = [each for each in slices(*judged, ["sex"], 50) if each.word == "Female"]
    decided, is_one = p[rows] >= threshold, labels[rows] == 1
    expected = {
        "accuracy": np.mean(decided == is_one),
        "selection_rate": decided.mean(),
        "recall": decided[is_one].mean(),
        "false_positive_rate": decided[~is_one].mean(),
        "roc_auc": roc_auc_score(is_one, p[rows]),
        "calibration_gap": p[rows].astype(float).mean() - is_one.mean(),
    }
    found = {name: women.metrics[name].value for name in expected}
    assert found == pytest.approx(expected)
    assert (women.n, women.positives) == (rows.sum(), is_one.sum())
    for estimate in women.metrics.values():
        assert estimate.low <= estimate.value <= estimate.high


def test_small_slices_are_marked(judged):
    found = slices(*judged, ["race"], 100)
    assert {each.word for each in found if not each.is_small} <= {"White", "Black"}
    assert any(each.is_small for each in found)


def test_missing_words_are_a_slice_of_their_own(judged):
    words = {each.word for each in slices(*judged, ["country_region"], 50)}
    assert "missing" in words


def test_a_number_is_no_slice(judged):
    with pytest.raises(TrainingRefused) as refused:
        slices(*judged, ["age"], 50)
    assert "names 'age', which is no category but a integer. Known: " in str(refused.value)
    assert "\n" not in str(refused.value)


def test_fairness_is_that_of_fairlearn_and_for_protected_attributes_only(judged):
    matrix, labels, p, threshold = judged
    found = {each.by: each for each in fairness(*judged, BY, 50)}
    assert "sex" in found
    assert "education_group" not in found
    decided = (p >= threshold).astype(int)
    group = words_of(matrix, "sex").astype(str)
    parity = fl.demographic_parity_difference(labels, decided, sensitive_features=group)
    odds = fl.equalized_odds_difference(labels, decided, sensitive_features=group)
    sex = found["sex"]
    assert sex.demographic_parity_difference == pytest.approx(parity)
    assert sex.equalized_odds_difference == pytest.approx(odds)
    assert (sex.least_selected, sex.most_selected) == ("Female", "Male")


def test_groups_with_few_rows_do_not_decide_how_fair_a_model_is(judged):
    race = {each.by: each for each in fairness(*judged, BY, 80)}.get("race")
    assert race is None or "Other" in race.left_out
    assert fairness(*judged, BY, 10_000) == ()
