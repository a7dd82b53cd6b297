"""Search spaces: data in the settings, and one clear line where they cannot be used."""

from __future__ import annotations

import pytest

from configs.errors import FTIError
from configs.settings import load_settings
from models.training.search_space import SearchSpace, with_params


def space(**ranges):
    training = load_settings(training={"tuning": {"spaces": {"xgboost": ranges}}}).training
    return SearchSpace.of(training)


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"max_depth": {"low": 8, "high": 3}}, r"max_depth'.*low \(8\) must be below high \(3\)"),
        ({"max_depth": {"low": 3, "high": 99}}, "'max_depth' has the value 99.*less than or equal"),
        ({"max_depth": {"low": 2.5, "high": 9}}, "'max_depth' has the value 2.5.*valid integer"),
        ({"gamma": {"low": -1, "high": 1}}, "'gamma' has the value -1"),
        ({"learning_rate": {"low": 0, "high": 1, "log": True}}, "log needs a low above 0"),
        ({"learning_rat": {"low": 0.1, "high": 1}}, "Did you mean 'learning_rate'"),
        ({"gamma": {"low": 3}}, "give both low and high, or choices"),
        ({"max_depth": {"low": "three", "high": 9}}, "max_depth.low' has the value 'three'"),
        ({"max_bin": {"choices": [64, 1]}}, "'max_bin' has the value 1"),
    ],
)
def test_a_bad_bound_is_one_line(ranges, message):
    with pytest.raises(FTIError, match=message) as refused:
        space(**ranges)
    assert "training.tuning.spaces.xgboost" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_family_without_a_space_says_where_to_write_one(training):
    bare = training.model_copy(update={"tuning": training.tuning.model_copy(update={"spaces": {}})})
    with pytest.raises(FTIError, match=r"'training\.tuning\.spaces' has no space for 'xgboost'"):
        SearchSpace.of(bare)


@pytest.mark.parametrize("family", load_settings().training.tuning.spaces)
def test_the_space_of_the_settings_holds_the_settings(family):
    training = load_settings(training={"model": family}).training
    assert SearchSpace.of(training).contains(getattr(training, family).model_dump())


def test_other_values_replace_those_of_the_family_alone(training):
    tried = with_params(training, {"max_depth": 3})
    assert (tried.xgboost.max_depth, tried.xgboost.learning_rate) == (3, 0.2)
    assert tried.model_copy(update={"xgboost": training.xgboost}) == training
