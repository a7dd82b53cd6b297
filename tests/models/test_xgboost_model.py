"""What only XGBoost offers: constraints, and an early end that keeps the best trees."""

from __future__ import annotations

import numpy as np
import pytest

from feature_store.definitions.engine import FeatureMatrix
from models.errors import TrainingRefused
from models.xgboost_model import XGBoostModel

SMALL = {"n_estimators": 30, "learning_rate": 0.3, "max_depth": 4}


def answers_by(model, features, name, values):
    """What it answers to the first rows with one number changed, ``(rows, values)``."""
    place = features.schema.position(name)
    rows = features.values[:50].repeat(len(values), axis=0)
    rows[:, place] = np.tile(values, 50)
    n = len(rows)
    matrix = FeatureMatrix(rows, np.arange(n), np.zeros(n, "datetime64[us]"), features.schema)
    return model.predict_proba(matrix).reshape(50, len(values))


@pytest.mark.parametrize("direction", [1, -1])
def test_a_constrained_feature_moves_answers_one_way_only(split, direction):
    train, ages = split.train, np.arange(18, 90, 2, dtype=np.float32)
    free = XGBoostModel(SMALL).fit(train.features, train.labels)
    constrained = XGBoostModel({**SMALL, "monotone_constraints": {"age": direction}})
    constrained.fit(train.features, train.labels)
    steps = direction * np.diff(answers_by(constrained, train.features, "age", ages))
    assert (steps >= 0).all()
    assert (np.diff(answers_by(free, train.features, "age", ages)) * direction < 0).any()


@pytest.mark.parametrize(
    ("name", "hint"), [("agee", "Did you mean 'age'?"), ("education", "not a number")]
)
def test_a_constraint_on_what_is_no_number_of_the_model_is_refused(split, name, hint):
    model = XGBoostModel({**SMALL, "monotone_constraints": {name: 1}})
    with pytest.raises(TrainingRefused, match=f"names '{name}'") as caught:
        model.fit(split.train.features, split.train.labels)
    assert hint in str(caught.value)


def test_rows_without_weight_teach_nothing(split):
    train = split.train
    half = np.arange(len(train)) < len(train) // 2
    lies = np.where(half, train.labels, 1 - train.labels)
    taught = XGBoostModel(SMALL).fit(train.features, lies, weights=half.astype(np.float32))
    misled = XGBoostModel(SMALL).fit(train.features, lies)
    test = split.test
    assert taught.evaluate(test.features, test.labels)["roc_auc"] > 0.88
    assert misled.evaluate(test.features, test.labels)["roc_auc"] < 0.75


def test_boosting_ends_when_validation_gets_no_better_and_keeps_the_best_trees(split):
    rounds = []
    model = XGBoostModel({**SMALL, "n_estimators": 500, "early_stopping_rounds": 5})
    model.fit(
        split.train.features,
        split.train.labels,
        validation=(split.validation.features, split.validation.labels),
        on_round=rounds.append,
    )
    assert sum(rounds) < 500
    assert model.facts()["n_trees"] == sum(rounds) - 5
