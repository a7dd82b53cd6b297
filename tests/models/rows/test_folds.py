"""Cross-validation parts: each row once, copies and equal rows together, both labels everywhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from configs.training_config import MaskingConfig
from models.errors import TrainingRefused
from models.rows.split import Part, fold_numbers, folds, joined, originals, row_groups, sampled

FOLDS = 4


@pytest.fixture
def repeated(split):
    """Training rows of which many are equal."""
    some = np.arange(600)
    places = np.concatenate([some, some[:200], some[:200]])
    return Part(split.train.features.rows(places), split.train.labels[places])


def rows_of(part: Part) -> set[bytes]:
    return {row.tobytes() for row in part.features.values}


def test_every_row_is_judged_once_and_never_learned_from_then(repeated):
    parts = list(folds(repeated, 3, seed=1))
    assert sum(len(judged) for _, judged in parts) == len(repeated)
    for learned, judged in parts:
        assert len(learned) + len(judged) == len(repeated)
        assert not rows_of(learned) & rows_of(judged)


def test_labels_are_spread_evenly(split):
    shares = [judged.labels.mean() for _, judged in folds(split.train, 5, seed=1)]
    assert np.ptp(shares) < 0.01


def test_a_sample_has_equal_rows_all_or_none_and_both_labels_in_their_shares(repeated, split):
    taken = sampled(repeated, 400, seed=1)
    assert len(taken) == pytest.approx(400, rel=0.15)
    group = row_groups(repeated.features.values)
    chosen = np.isin([row.tobytes() for row in repeated.features.values], sorted(rows_of(taken)))
    assert chosen.sum() == len(taken)
    assert len(np.unique(group[chosen])) == len(rows_of(taken))
    assert sampled(split.train, 500, 1).labels.mean() == pytest.approx(
        split.train.labels.mean(), abs=0.01
    )
    assert sampled(repeated, 5_000, 1) is repeated


def test_one_label_alone_cannot_be_parted(repeated):
    zeros = replace(repeated, labels=np.zeros_like(repeated.labels))
    with pytest.raises(TrainingRefused, match="cannot be parted into 3 folds"):
        list(folds(zeros, 3, seed=1))


@pytest.fixture
def copied(rows, masker):
    return masker.with_copies(rows.features, rows.labels, MaskingConfig(copies=2), seed=1)


def test_copies_of_a_row_are_in_its_fold(copied, rows):
    numbers = fold_numbers(copied.features, copied.labels, FOLDS, seed=3).reshape(3, len(rows))
    assert (numbers == numbers[0]).all()


def test_equal_rows_are_in_one_fold(rows):
    twice = joined(rows.features, rows.features)
    numbers = fold_numbers(twice, np.tile(rows.labels, 2), FOLDS, seed=3).reshape(2, len(rows))
    assert (numbers[0] == numbers[1]).all()


def test_copies_that_look_alike_do_not_bring_their_originals_together(rows, masker):
    config = MaskingConfig(copies=1, all_missing_share=1)
    blank = masker.with_copies(rows.features, rows.labels, config, seed=1)
    assert len(set(fold_numbers(blank.features, blank.labels, FOLDS, seed=3))) == FOLDS


def test_folds_are_of_about_one_size_and_drawn_by_seed(rows):
    first, again, other = (
        fold_numbers(rows.features, rows.labels, FOLDS, seed) for seed in (1, 1, 2)
    )
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
