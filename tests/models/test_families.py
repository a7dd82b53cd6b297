"""One checklist that every family of models passes."""

from __future__ import annotations

import numpy as np
import pytest

from feature_store.engine import FeatureMatrix
from feature_store.errors import SchemaMismatch
from feature_store.training_data import decoded_frame
from models.errors import TrainingRefused
from models.families import new_model
from models.scorer import OnnxScorer

FAMILIES = ["xgboost"]


@pytest.fixture(params=FAMILIES)
def config(request, training):
    return training.model_copy(update={"model": request.param})


@pytest.fixture
def model(config, split):
    validation = split.validation
    return new_model(config).fit(
        split.train.features,
        split.train.labels,
        validation=(validation.features, validation.labels),
    )


def test_probabilities_are_float32_between_0_and_1(model, split):
    p = model.predict_proba(split.test.features)
    assert (p.dtype, p.shape) == (np.float32, (len(split.test),))
    assert ((p > 0) & (p < 1)).all()


def test_it_learns(model, split):
    assert model.evaluate(split.test.features, split.test.labels)["roc_auc"] > 0.88


def test_equal_seeds_give_equal_bits(model, config, split):
    again = new_model(config).fit(
        split.train.features,
        split.train.labels,
        validation=(split.validation.features, split.validation.labels),
    )
    test = split.test.features
    assert again.predict_proba(test).tobytes() == model.predict_proba(test).tobytes()
    assert again.threshold == model.threshold


def test_a_saved_model_answers_as_before(model, split, tmp_path):
    model.save(tmp_path)
    loaded = type(model).load(tmp_path, split.test.features.schema)
    test = split.test.features
    assert loaded.predict_proba(test).tobytes() == model.predict_proba(test).tobytes()
    assert loaded.threshold == model.threshold
    assert loaded.importance() == model.importance()


def test_a_batch_of_one_equals_its_row(model, split):
    test = split.test.features
    one = [model.predict_proba(test.rows(np.array([place])))[0] for place in range(20)]
    assert np.array(one).tobytes() == model.predict_proba(test)[:20].tobytes()


def test_missing_values_survive(model, split, masker):
    test = split.test.features
    nothing = masker.hide(test.values[:5], masker.all_but(5, ()))
    p = model.predict_proba(FeatureMatrix(nothing, test.keys[:5], test.times[:5], test.schema))
    assert np.isfinite(p).all()


def test_the_input_is_left_as_it_was(model, split):
    test = split.test.features
    before = test.values.tobytes()
    model.predict_proba(test)
    assert test.values.tobytes() == before


def test_importance_names_all_features_and_sums_to_1(model, split):
    importance = model.importance()
    assert set(importance) == set(split.test.features.schema.names)
    assert sum(importance.values()) == pytest.approx(1)


def test_the_onnx_graph_answers_as_the_model(model, split):
    test = split.test.features
    exported = OnnxScorer(model.to_onnx(), len(test.schema)).predict(test.values)
    assert exported == pytest.approx(model.predict_proba(test), abs=1e-5)


def test_a_frame_of_words_is_as_good_as_the_matrix(model, rows, split):
    frame, labels = decoded_frame(rows, "user_id", "income")
    assert model.predict_proba(frame).tobytes() == model.predict_proba(rows.features).tobytes()
    few = frame.loc[split.test.features.keys]
    judged = model.evaluate(few, labels.loc[split.test.features.keys])
    assert judged == model.evaluate(split.test.features, split.test.labels)


def test_some_features_suffice_and_others_are_refused_then(config, rows):
    frame, labels = decoded_frame(rows, "user_id", "income")
    some = frame[["age", "education", "hours_per_week"]]
    model = new_model(config).fit(some, labels)
    assert model.predict_proba(some).shape == (len(rows),)
    with pytest.raises(SchemaMismatch, match="missing: education, hours_per_week"):
        model.predict_proba(frame[["age"]])


def test_an_unfitted_model_says_so(config, split):
    with pytest.raises(SchemaMismatch, match="has not been fitted"):
        new_model(config).predict_proba(split.test.features)


def test_one_class_is_refused(config, split):
    zeros = np.zeros(len(split.train), dtype=np.int8)
    with pytest.raises(TrainingRefused, match="all with label 0"):
        new_model(config).fit(split.train.features, zeros)


def test_rounds_are_reported(config, split):
    rounds = []
    new_model(config).fit(split.train.features, split.train.labels, on_round=rounds.append)
    assert sum(rounds) == new_model(config).most_rounds
