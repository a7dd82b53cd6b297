"""Masked rows are those of the engine with attributes absent."""

from __future__ import annotations

import numpy as np
import pytest

from configs.training_config import MaskingConfig
from feature_store.definitions.engine import Engine
from feature_store.errors import UnknownFeature
from feature_store.feature_definitions import MODEL_VIEW
from models.rows.masking import Masker


def _bits(values):
    return np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)


def test_hiding_all_but_some_attributes_is_the_request_with_only_those(rows, masker):
    complete = rows.features.values[:50]
    present = ["age", "workclass", "education", "occupation", "hours_per_week"]
    hidden = masker.hide(complete, masker.all_but(50, present))
    engine = Engine(MODEL_VIEW)
    for vector, masked in zip(complete, hidden, strict=True):
        decoded = engine.schema.decode(vector)
        request = engine.row({name: decoded[name] for name in present})
        assert (_bits(request) == _bits(masked)).all()


def test_attributes_that_follow_from_each_other_are_hidden_together(rows, masker):
    hidden = masker.hide(rows.features.values[:1], masker.all_but(1, present=["age"]))
    decoded = masker.engine.schema.decode(hidden[0])
    assert decoded["education"] is None
    assert decoded["education_num"] is None
    assert decoded["age"] is not None


def test_hiding_nothing_changes_no_bit(rows, masker):
    values = rows.features.values[:500]
    nothing = np.zeros((500, len(masker.groups)), dtype=bool)
    assert (_bits(masker.hide(values, nothing)) == _bits(values)).all()


def test_hidden_categories_may_read_as_unseen(rows, masker):
    everything = np.ones((1, len(masker.groups)), dtype=bool)
    hidden = masker.hide(rows.features.values[:1], everything, everything)
    unseen = masker.engine.row({f.name: "no such word" for f in MODEL_VIEW.raw_features if f.codes})
    assert (_bits(hidden[0]) == _bits(unseen)).all()


def test_copies_follow_the_rows_with_their_labels_and_weights(rows, masker):
    config = MaskingConfig(copies=2, weight=0.25)
    n = len(rows)
    copied = masker.with_copies(rows.features, rows.labels, config, seed=1)
    assert len(copied.features) == 3 * n
    assert (_bits(copied.features.values[:n]) == _bits(rows.features.values)).all()
    assert (copied.labels.reshape(3, n) == rows.labels).all()
    assert (copied.features.keys.reshape(3, n) == rows.features.keys).all()
    assert copied.weights[:n].tolist() == [1] * n
    assert set(copied.weights[n:]) == {np.float32(0.25)}


def test_copies_hide_attributes_in_all_amounts_and_repeat_by_seed(rows, masker):
    config = MaskingConfig(copies=1, all_missing_share=0.1)
    first, again, other = (
        masker.with_copies(rows.features, rows.labels, config, seed=seed).features.values
        for seed in (1, 1, 2)
    )
    assert (_bits(first) == _bits(again)).all()
    assert (_bits(first) != _bits(other)).any()
    n = len(rows)
    raw = [masker.engine.schema.position(f.name) for f in MODEL_VIEW.raw_features]
    numbers = [p for p in raw if masker.engine.schema.features[p].kind != "category"]
    hidden = np.isnan(first[n:, numbers]).mean(axis=1)
    assert {0.0, 0.5, 1.0} <= set(hidden.round(3))
    assert np.mean(hidden) == pytest.approx(0.55, abs=0.05)  # half, and a tenth hides all


def test_an_attribute_that_is_not_raw_is_refused(masker):
    with pytest.raises(UnknownFeature, match="'agee' is not a raw column of 'user_features'"):
        masker.all_but(1, present=["agee"])


def test_masks_draw_the_share_of_rows_that_hide_everything(masker, random):
    hidden = masker.random(20_000, 0.3, random)
    assert hidden.all(axis=1).mean() == pytest.approx(
        0.3 + 0.7 / (len(Masker(MODEL_VIEW).groups) + 1), abs=0.02
    )
