"""Cross-validation parts: each row once, equal rows together, both labels everywhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.errors import TrainingRefused
from models.folds import folds, sampled
from models.split import Part, row_groups


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
