"""One checklist that every family of models passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from feature_store.definitions.engine import FeatureMatrix
from feature_store.errors import SchemaMismatch
from models.artifact.artifact import json_bytes, schema_json, write_artifact
from models.bulk_scorer import bulk_scorer
from models.calibrated_model import calibrated
from models.errors import ArtifactError, TrainingRefused
from models.evaluation.calibration import fit_calibration
from models.families import FAMILIES, load_model, new_model
from models.onnx.scorer import OnnxScorer
from models.registry.pyfunc_loader import PackedModel
from models.reports.parity import TOLERANCE, parity_rows, refuse_different
from models.rows.split import Part
from models.training.fit import fit, held_out_metrics
from tests.worlds.rows import decoded_frame

FIRST = np.arange(20)


@pytest.fixture(scope="module", params=FAMILIES)
def config(request, training):
    return training.model_copy(update={"model": request.param})


@pytest.fixture(scope="module")
def model(config, split, masker):
    """Fitted as the pipeline does, on complete rows and masked copies."""
    return fit(new_model(config), split, masker, config)


@pytest.fixture(scope="module")
def graph(model):
    return model.to_onnx()


@pytest.fixture(scope="module")
def strange(split, masker):
    """Complete, masked and unseen rows, and every word of every category."""
    return parity_rows(split.test.features, masker)


@pytest.fixture(scope="module")
def few(config):
    """The same family, learning as little as it can."""
    least = {"epochs": 1, "n_estimators": 2}
    section = getattr(config, config.model)
    known = {name: value for name, value in least.items() if name in type(section).model_fields}
    if config.model == "ensemble":
        known = {
            name: getattr(section, name).model_copy(
                update={key: least[key] for key in least if hasattr(getattr(section, name), key)}
            )
            for name in section.members
        }
    return config.model_copy(update={config.model: section.model_copy(update=known)})


def saved(model, folder):
    """The files that a model is saved as, by name."""
    folder.mkdir()
    model.save(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_probabilities_are_float32_between_0_and_1(model, split):
    p = model.predict_proba(split.test.features)
    assert (p.dtype, p.shape) == (np.float32, (len(split.test),))
    assert ((p > 0) & (p < 1)).all()


def test_it_learns(model, split):
    assert model.evaluate(split.test.features, split.test.labels)["roc_auc"] > 0.88


def test_equal_seeds_give_equal_files_whatever_the_test_part_holds(
    model, config, split, masker, tmp_path
):
    """What judges cannot have influenced anything: neither its labels nor its features."""
    test = split.test
    poison = Part(replace(test.features, values=-7 * test.features.values), 1 - test.labels)
    again = fit(new_model(config), replace(split, test=poison), masker, config)
    assert saved(again, tmp_path / "again") == saved(model, tmp_path / "model")


def test_another_seed_gives_another_model(few, split):
    first, other = (
        new_model(few.model_copy(update={"seed": seed})).fit(
            split.train.features, split.train.labels
        )
        for seed in (1, 2)
    )
    test = split.test.features
    assert first.predict_proba(test).tobytes() != other.predict_proba(test).tobytes()


def test_a_saved_model_answers_as_before(model, split, tmp_path):
    model.save(tmp_path)
    loaded = type(model).load(tmp_path, split.test.features.schema)
    test = split.test.features
    assert loaded.predict_proba(test).tobytes() == model.predict_proba(test).tobytes()
    assert loaded.threshold == model.threshold
    assert loaded.importance() == model.importance()
    assert loaded.facts() == model.facts()
    assert loaded.to_onnx() == model.to_onnx()


def test_a_saved_model_of_other_features_is_refused(model, split, tmp_path):
    model.save(tmp_path)
    other = split.test.features.schema.select(["age", "education"])
    with pytest.raises(ArtifactError, match="Train again with the present features"):
        type(model).load(tmp_path, other)


def test_files_that_are_not_there_are_named(model, split, tmp_path):
    with pytest.raises(ArtifactError, match=str(tmp_path)):
        type(model).load(tmp_path, split.test.features.schema)


def test_a_batch_of_one_equals_its_row(model, split):
    test = split.test.features
    one = [model.predict_proba(test.rows(np.array([place])))[0] for place in FIRST]
    assert np.array(one).tobytes() == model.predict_proba(test)[FIRST].tobytes()


def test_it_stays_sensible_when_attributes_are_absent(model, config, split, masker):
    found = held_out_metrics(model, split.test, masker, config)
    base_rate = found["log_loss_base_rate"]
    assert found["log_loss_all_missing"] == pytest.approx(base_rate, abs=0.05)
    assert found["log_loss_request_attributes"] < base_rate - 0.05


def test_with_nothing_present_the_answer_is_about_the_base_rate(model, split, masker):
    test = split.test.features
    nothing = masker.hide(test.values[:1], masker.all_but(1, ()))
    [p] = model.predict_proba(FeatureMatrix(nothing, test.keys[:1], test.times[:1], test.schema))
    assert p == pytest.approx(split.train.labels.mean(), abs=0.1)


def test_the_input_is_left_as_it_was(model, split):
    test = split.test.features
    before = test.values.tobytes()
    model.predict_proba(test)
    assert test.values.tobytes() == before


def test_importance_names_all_features_and_sums_to_1(model, split):
    importance = model.importance()
    assert set(importance) == set(split.test.features.schema.names)
    assert sum(importance.values()) == pytest.approx(1)
    assert list(importance.values()) == sorted(importance.values(), reverse=True)


def test_the_onnx_graph_answers_as_the_model_on_missing_and_unseen_words_too(model, graph, strange):
    assert refuse_different(model, graph, strange) <= TOLERANCE


def test_a_row_has_the_same_bits_in_every_batch_of_the_graph(graph, strange):
    scorer = OnnxScorer(graph, strange.shape[1])
    whole = scorer.predict(strange)
    for size in (*range(1, 20), 31, 32, 33, 63, 64):
        parts = [strange[start : start + size] for start in range(0, 320, size)]
        found = np.concatenate([scorer.predict(part) for part in parts])
        assert found.tobytes() == whole[: len(found)].tobytes(), size


def test_numbers_beyond_all_bounds_and_codes_of_no_word_are_answered(graph, strange):
    rows = np.stack([np.full(strange.shape[1], odd) for odd in (-1e30, 1e30, np.inf, -np.inf, 999)])
    p = OnnxScorer(graph, strange.shape[1]).predict(rows.astype(np.float32))
    assert ((p >= 0) & (p <= 1)).all()


@pytest.fixture(scope="module")
def artifact(model, graph, split, tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifact")
    model.save(folder)
    files = {
        "schema.json": schema_json(split.test.features.schema, "user_id"),
        "config.json": json_bytes({"family": model.family, "threshold": model.threshold}),
        "model.onnx": graph,
        "example.json": json_bytes({}),
    }
    return write_artifact(folder, files)


def test_the_engine_for_many_rows_agrees(artifact, graph, strange):
    scorer, many = bulk_scorer(artifact), np.tile(strange, (5, 1))
    assert scorer.predict(many[:0]).shape == (0,)
    found = scorer.predict(many)
    assert found.dtype == np.float32
    assert found == pytest.approx(
        np.tile(OnnxScorer(graph, strange.shape[1]).predict(strange), 5), abs=TOLERANCE
    )


def test_it_is_loaded_by_the_name_of_its_family(artifact, model, split):
    loaded, test = load_model(artifact), split.test.features
    assert type(loaded) is type(model)
    assert loaded.predict_proba(test).tobytes() == model.predict_proba(test).tobytes()


def test_a_calibration_behind_it_is_part_of_its_graph(model, graph, strange, split):
    labels, test = split.test.labels, split.test.features
    right = calibrated(model, fit_calibration("isotonic", labels, model.predict_proba(test)))
    scorer = OnnxScorer(right.to_onnx(), strange.shape[1])
    whole = scorer.predict(strange)
    said = OnnxScorer(graph, strange.shape[1]).predict(strange)
    assert whole.tobytes() == right.calibration(said).tobytes()
    one_by_one = [scorer.predict(strange[place : place + 1]) for place in FIRST]
    assert np.concatenate(one_by_one).tobytes() == whole[FIRST].tobytes()


def test_who_learned_from_the_validation_rows_is_not_calibrated_on_them(few, split, masker):
    config, untrained = few.model_copy(update={"calibration": "platt"}), new_model(few)
    if untrained.learns_from_validation:
        with pytest.raises(TrainingRefused, match="learns from the validation rows too"):
            fit(untrained, split, masker, config)
    else:
        assert "calibration_knots" in fit(untrained, split, masker, config).facts()


def test_what_errors_cost_decides_its_threshold(few, split, masker):
    thresholds = []
    for cost in (1, 10):
        costly = few.decision.model_copy(update={"cost_false_negative": cost})
        config = few.model_copy(update={"threshold_objective": "cost", "decision": costly})
        thresholds.append(fit(new_model(config), split, masker, config).threshold)
    assert thresholds[1] < thresholds[0]


def test_what_the_stock_mlflow_client_loads_agrees(artifact, model, rows):
    frame, _ = decoded_frame(rows, "user_id", "income")
    found = PackedModel(artifact.path).predict(frame)
    assert found["probability"].to_numpy() == pytest.approx(
        model.predict_proba(rows.features), abs=TOLERANCE
    )
    assert found["prediction"].tolist() == (found["probability"] >= model.threshold).tolist()


def test_no_file_holds_a_pickle(artifact):
    for name in artifact.files:
        content = artifact.read(name)
        if name.endswith(".npz"):
            with np.load(artifact.path / name, allow_pickle=False) as arrays:
                assert all(arrays[key].dtype.kind in "fib" for key in arrays.files)
        else:
            assert name.endswith((".json", ".onnx", ".ubj"))
            assert not content.startswith(b"\x80")


def test_a_frame_of_words_is_as_good_as_the_matrix(model, rows, split):
    frame, labels = decoded_frame(rows, "user_id", "income")
    assert model.predict_proba(frame).tobytes() == model.predict_proba(rows.features).tobytes()
    few = frame.loc[split.test.features.keys]
    judged = model.evaluate(few, labels.loc[split.test.features.keys])
    assert judged == model.evaluate(split.test.features, split.test.labels)


def test_some_features_suffice_and_others_are_refused_then(few, rows):
    frame, labels = decoded_frame(rows, "user_id", "income")
    some = frame[["age", "education", "hours_per_week"]]
    model = new_model(few).fit(some, labels)
    assert model.predict_proba(some).shape == (len(rows),)
    with pytest.raises(SchemaMismatch, match="missing: education, hours_per_week"):
        model.predict_proba(frame[["age"]])


@pytest.mark.parametrize("names", [["age", "hours_per_week"], ["education", "sex"]])
def test_numbers_alone_and_categories_alone_suffice(few, rows, names):
    frame, labels = decoded_frame(rows, "user_id", "income")
    model = new_model(few).fit(frame[names], labels)
    values = rows.features.values[:, [rows.features.schema.position(name) for name in names]]
    assert refuse_different(model, model.to_onnx(), values) <= TOLERANCE


def test_a_number_that_never_varies_or_never_is_there_is_no_obstacle(few, split):
    values = split.train.features.values.copy()
    age, hours = (split.train.features.schema.position(n) for n in ("age", "hours_per_week"))
    values[:, age], values[:, hours] = 40, np.nan
    features = replace(split.train.features, values=values)
    model = new_model(few).fit(features, split.train.labels)
    assert np.isfinite(model.predict_proba(split.test.features)).all()


def test_an_unfitted_model_says_so(config, split):
    with pytest.raises(SchemaMismatch, match="has not been fitted"):
        new_model(config).predict_proba(split.test.features)
    with pytest.raises(TrainingRefused, match="has not been fitted"):
        new_model(config).to_onnx()


def test_one_class_is_refused(config, split):
    zeros = np.zeros(len(split.train), dtype=np.int8)
    with pytest.raises(TrainingRefused, match="all with label 0"):
        new_model(config).fit(split.train.features, zeros)


def test_a_parameter_that_is_not_known_is_named(config):
    with pytest.raises(TrainingRefused, match="has no parameter 'no_such' here"):
        type(new_model(config))({"no_such": 1})


def test_rounds_are_reported(few, split):
    rounds = []
    new_model(few).fit(split.train.features, split.train.labels, on_round=rounds.append)
    assert sum(rounds) == new_model(few).most_rounds
