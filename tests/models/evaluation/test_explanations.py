"""Contributions: they sum to what the model says, and name what matters."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluation.explanations import contributions


class Unexplained:
    """A model that gives probabilities and nothing else, as any family may."""

    def __init__(self, model):
        self.predict_proba = model.predict_proba


def log_odds(p):
    return np.log(p.astype(float)) - np.log1p(-p.astype(float))


def test_those_of_trees_sum_to_the_log_odds(trained, split):
    rows = split.test.features.rows(np.arange(50))
    found = contributions(trained.model, rows, split.validation.features)
    assert found.method == "TreeSHAP, exact"
    assert found.values.shape == (50, len(rows.schema))
    assert found.margin == pytest.approx(log_odds(trained.model.predict_proba(rows)), abs=1e-4)


def test_those_of_any_other_model_sum_too_and_agree_on_what_matters(trained, split):
    rows = split.test.features.rows(np.arange(40))
    model = Unexplained(trained.model)
    found = contributions(model, rows, split.validation.features, seed=3)
    assert found.margin == pytest.approx(log_odds(trained.model.predict_proba(rows)), abs=1e-4)
    exact = contributions(trained.model, rows, split.validation.features)
    assert set(list(found.mean_size())[:3]) & set(list(exact.mean_size())[:5])
    again = contributions(model, rows, split.validation.features, seed=3)
    assert again.values.tobytes() == found.values.tobytes()


def test_an_unused_feature_adds_nothing(trained, split):
    rows = split.test.features.rows(np.arange(40))
    found = contributions(Unexplained(trained.model), rows, split.validation.features)
    unused = [name for name, share in trained.model.importance().items() if share == 0]
    for name in unused:
        assert found.mean_size()[name] == 0
