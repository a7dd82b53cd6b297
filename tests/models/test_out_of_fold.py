"""Folds of an ensemble: what one side learned by heart is not asked for on the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from configs.settings import MaskingConfig
from models.out_of_fold import fold_numbers, joined, originals

FOLDS = 4


@pytest.fixture
def copied(rows, masker):
    return masker.with_copies(rows.features, rows.labels, MaskingConfig(copies=2), seed=1)


def test_copies_of_a_row_are_in_its_fold(copied, rows):
    numbers = fold_numbers(copied.features, FOLDS, seed=3).reshape(3, len(rows))
    assert (numbers == numbers[0]).all()


def test_equal_rows_are_in_one_fold(rows):
    twice = joined(rows.features, rows.features)
    numbers = fold_numbers(twice, FOLDS, seed=3).reshape(2, len(rows))
    assert (numbers[0] == numbers[1]).all()


def test_copies_that_look_alike_do_not_bring_their_originals_together(rows, masker):
    config = MaskingConfig(copies=1, all_missing_share=1)
    blank = masker.with_copies(rows.features, rows.labels, config, seed=1)
    assert len(set(fold_numbers(blank.features, FOLDS, seed=3))) == FOLDS


def test_folds_are_of_about_one_size_and_drawn_by_seed(rows):
    first, again, other = (fold_numbers(rows.features, FOLDS, seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
    assert np.bincount(first) == pytest.approx(len(rows) / FOLDS, rel=0.05)


def test_joined_rows_keep_their_own_keys_apart(rows):
    few, more = rows.features.rows(slice(0, 3)), rows.features.rows(slice(1, 5))
    both = joined(few, more)
    assert len(set(both.keys.tolist())) == 7
    assert (both.values[3:] == more.values)[~np.isnan(more.values)].all()


def test_the_first_row_of_a_key_is_the_original(copied, rows):
    first = originals(copied.features)
    assert first[: len(rows)].all()
    assert not first[len(rows) :].any()
    assert originals(replace(copied.features, keys=np.arange(len(first)))).all()
