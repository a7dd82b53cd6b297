"""Contributions from arrays alone equal those of XGBoost itself."""

import itertools
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from models.errors import ArtifactError
from models.trees.forest import FILE, Forest, forest_of
from models.trees.tree_shap import TreeExplainer
from models.xgboost_model import XGBoostModel
from tests.worlds.rows import random_matrix


@cache
def fitted(depth: int) -> XGBoostModel:
    matrix = random_matrix(2_000)
    age = np.nan_to_num(matrix.values[:, matrix.schema.position("age")], nan=30)
    labels = (age + np.random.default_rng(0).normal(0, 20, len(age)) > 45).astype(np.int8)
    return XGBoostModel({"n_estimators": 40, "max_depth": depth}, seed=1).fit(matrix, labels)


@pytest.mark.parametrize("depth", [1, 3, 6, 9])
def test_contributions_equal_those_of_xgboost_and_sum_to_the_margin(depth, tmp_path):
    model = fitted(depth)
    model.save(tmp_path)
    explainer = TreeExplainer(Forest.read_npz((tmp_path / FILE).read_bytes()), 47)
    rows = random_matrix(60)
    expected = model.contributions(rows)
    probabilities = model.predict_proba(rows)

    for row, shares, probability in zip(rows.values, expected, probabilities, strict=True):
        found = explainer.contributions(row)
        assert found == pytest.approx(shares[:-1], abs=1e-5)
        assert explainer.base == pytest.approx(shares[-1], abs=1e-5)
        margin = explainer.base + found.sum()
        assert 1 / (1 + math.exp(-margin)) == pytest.approx(probability, abs=1e-6)


STUMPS = Forest(
    left=np.array([1, -1, 3, -1, -1]),
    right=np.array([2, -1, 4, -1, -1]),
    feature=np.array([0, 0, 1, 0, 0]),
    threshold=np.array([0.5, 10.0, 0.5, 20.0, 40.0], dtype=np.float32),
    default_left=np.array([True] * 5),
    category_row=np.full(5, -1),
    goes_right=np.zeros((1, 1), dtype=bool),
    cover=np.array([8.0, 2.0, 6.0, 3.0, 3.0]),
    roots=np.array([0]),
    base=1.0,
)
"""x0 < 0.5: 10, else x1 < 0.5: 20, else 40."""


def expected_value(forest: Forest, row: np.ndarray, known: set[int], node: int = 0) -> float:
    """The answer of a tree when only some features are known, by the definition."""
    left, right = int(forest.left[node]), int(forest.right[node])
    if left < 0:
        return float(forest.threshold[node])
    parts = [expected_value(forest, row, known, child) for child in (left, right)]
    if int(forest.feature[node]) in known:
        return parts[0] if forest.goes_left(row)[node] else parts[1]
    shares = [float(forest.cover[child]) / float(forest.cover[node]) for child in (left, right)]
    return parts[0] * shares[0] + parts[1] * shares[1]


@settings(max_examples=50)
@given(
    st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32) | st.just(math.nan)),
    st.tuples(st.sampled_from([0, 1]), st.sampled_from([0, 1])),
    st.sampled_from([(8.0, 2.0, 6.0, 3.0, 3.0), (8.0, 0.0, 8.0, 8.0, 0.0)]),
)
def test_contributions_are_shapley_values_by_the_definition(values, asked, cover):
    first, second = asked
    forest = replace(
        STUMPS, feature=np.array([first, 0, second, 0, 0]), cover=np.array(cover, dtype=float)
    )
    row = np.array(values, dtype=np.float32)
    expected = np.zeros(2)
    for order in itertools.permutations(range(2)):
        known: set[int] = set()
        for feature in order:
            before = expected_value(forest, row, known)
            known.add(feature)
            expected[feature] += (expected_value(forest, row, known) - before) / 2

    explainer = TreeExplainer(forest, 2)
    assert explainer.contributions(row) == pytest.approx(expected, abs=1e-9)
    assert explainer.base == pytest.approx(1 + expected_value(forest, row, set()))


def test_a_forest_comes_back_from_its_file_with_the_same_bits():
    forest = fitted(6).forest()
    again = Forest.read_npz(forest.to_npz())
    for name, value in vars(forest).items():
        assert np.array_equal(getattr(again, name), value), name
        assert np.asarray(getattr(again, name)).dtype == np.asarray(value).dtype, name


@given(st.binary(max_size=60))
def test_bytes_that_are_no_model_are_refused(data):
    for read in (forest_of, Forest.read_npz):
        with pytest.raises(ArtifactError):
            read(data)


def test_a_cut_or_altered_file_is_read_or_refused_but_never_crashes(tmp_path):
    fitted(3).save(tmp_path)
    whole = (tmp_path / FILE).read_bytes()
    random = np.random.default_rng(0)
    for _ in range(200):
        altered = bytearray(whole[: random.integers(1, len(whole))])
        altered[random.integers(0, len(altered))] ^= 1 << random.integers(0, 8)
        with pytest.raises(ArtifactError):
            Forest.read_npz(bytes(altered))
