"""Splits keep parts apart."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from feature_store.definitions.engine import FeatureMatrix
from models.errors import TrainingRefused
from models.rows.split import split_rows

SHARES = {"test_share": 0.2, "validation_share": 0.1}


def _vectors(part) -> set[bytes]:
    return {row.tobytes() for row in part.features.values}


def test_parts_are_disjoint_complete_and_equally_mixed(rows, split):
    keys = [
        set(part.features.keys.tolist()) for part in (split.train, split.validation, split.test)
    ]
    assert sum(map(len, keys)) == len(rows) == len(set.union(*keys))
    for part in (split.train, split.validation, split.test):
        assert part.labels.mean() == pytest.approx(rows.labels.mean(), abs=0.01)


def test_labels_stay_with_their_rows(rows, split):
    label_of = dict(zip(rows.features.keys.tolist(), rows.labels.tolist(), strict=True))
    for part in (split.train, split.validation, split.test):
        assert [label_of[key] for key in part.features.keys.tolist()] == part.labels.tolist()


def test_the_test_part_is_that_of_scikit_learn(rows, split):
    _, test = train_test_split(
        np.arange(len(rows)), test_size=0.2, random_state=101, stratify=rows.labels
    )
    assert split.test.features.keys.tolist() == sorted(rows.features.keys[test].tolist())


def test_equal_rows_never_straddle_the_parts(rows):
    repeated = np.r_[np.arange(len(rows)), np.arange(300)]
    matrix = rows.features.rows(repeated)
    split = split_rows(matrix, rows.labels[repeated], seed=3, **SHARES)
    train, validation, test = map(_vectors, (split.train, split.validation, split.test))
    assert not train & test
    assert not train & validation
    assert not validation & test
    assert len(split.train) + len(split.validation) + len(split.test) == len(repeated)


def test_a_seed_repeats_its_split(rows, split):
    again = split_rows(rows.features, rows.labels, seed=101, **SHARES)
    other = split_rows(rows.features, rows.labels, seed=102, **SHARES)
    assert again.test.features.keys.tolist() == split.test.features.keys.tolist()
    assert other.test.features.keys.tolist() != split.test.features.keys.tolist()


def test_one_class_is_refused_in_one_line(rows):
    ones = np.ones(len(rows), dtype=np.int8)
    with pytest.raises(TrainingRefused) as refused:
        split_rows(rows.features, ones, seed=0, **SHARES)
    assert str(refused.value) == (
        "Training needs rows of both labels; given are 4,000 rows, all with label 1. "
        "Widen the range of dates."
    )


def test_too_few_rows_are_refused(rows):
    few = rows.features.rows(np.arange(3))
    labels = np.array([0, 1, 0], dtype=np.int8)
    with pytest.raises(TrainingRefused, match="3 rows cannot be split"):
        split_rows(few, labels, seed=0, **SHARES)


def test_the_labels_of_the_test_part_influence_nothing_before_it_is_judged(
    rows, split, masker, training
):
    from models.families import new_model
    from models.training.fit import fit

    turned = rows.labels.copy()
    in_test = np.isin(rows.features.keys, split.test.features.keys)
    assert isinstance(rows.features, FeatureMatrix)
    turned[in_test] = 1 - turned[in_test]
    part = type(split)(
        split.train, split.validation, type(split.test)(split.test.features, turned[in_test])
    )
    first = fit(new_model(training), split, masker, training)
    second = fit(new_model(training), part, masker, training)
    assert first.threshold == second.threshold
    assert (
        first.predict_proba(rows.features).tobytes()
        == second.predict_proba(rows.features).tobytes()
    )
