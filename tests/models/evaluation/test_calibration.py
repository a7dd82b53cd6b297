"""Calibration: it sets probabilities right, and does so to the bit wherever the model answers."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import mlflow
import numpy as np
import pytest

from models.bulk_scorer import BulkScorer
from models.calibrated_model import calibrated_graph, with_calibration
from models.evaluation.calibration import Calibration, fit_calibration, reliability
from models.evaluation.metrics import calibration_error, log_loss
from models.families import new_model
from models.lineage import Recipe
from models.onnx.scorer import OUTPUT, OnnxScorer
from models.registry.pyfunc import write_pyfunc
from models.reports.write_up import write_up
from models.training.fit import Trained, fit, held_out_metrics

METHODS = ("isotonic", "platt")


@pytest.fixture
def sure_of_itself(random):
    """Labels, and probabilities that are too near to 0 and 1."""
    truth = random.beta(0.8, 2, size=6_000)
    odds = 2.2 * np.log(truth / (1 - truth))
    labels = (random.random(6_000) < truth).astype(np.int8)
    return labels, (1 / (1 + np.exp(-odds))).astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
def test_it_sets_probabilities_right_on_other_rows(sure_of_itself, method):
    labels, p = sure_of_itself
    curve = fit_calibration(method, labels[:3_000], p[:3_000])
    labels, before, after = labels[3_000:], p[3_000:], curve(p[3_000:])
    assert log_loss(labels, after) < log_loss(labels, before) - 0.02
    assert calibration_error(labels, after) < calibration_error(labels, before) / 2


@pytest.mark.parametrize("method", METHODS)
def test_it_keeps_the_order_and_stays_between_0_and_1(sure_of_itself, method):
    curve = fit_calibration(method, *sure_of_itself)
    right = curve(np.linspace(0, 1, 100_001, dtype=np.float32))
    assert right.dtype == np.float32
    assert (np.diff(right) >= 0).all()
    assert (right[0], right[-1]) == (0, 1)
    assert curve.slope.max() < 10  # a difference of two engines stays small


@pytest.mark.parametrize("method", METHODS)
def test_right_probabilities_are_left_nearly_as_they_are(random, method):
    p = random.beta(0.5, 1.5, size=20_000).astype(np.float32)
    labels = (random.random(20_000) < p).astype(np.int8)
    curve = fit_calibration(method, labels, p)
    assert np.abs(curve(p) - p).mean() < 0.015


def test_reliability_gives_every_row_to_a_bin(sure_of_itself):
    labels, p = sure_of_itself
    bins = reliability(labels, p)
    assert sum(each.n for each in bins) == len(labels)
    assert sum(each.observed.value * each.n for each in bins) == pytest.approx(labels.sum())


@pytest.fixture(scope="module", params=METHODS)
def shipped(request, rows, split, masker, training, tmp_path_factory):
    """A calibrated model, packed and written up."""
    config = training.model_copy(update={"calibration": request.param})
    model = fit(new_model(config), split, masker, config)
    trained = Trained(model, split, held_out_metrics(model, split.test, masker, config))
    folder = tmp_path_factory.mktemp("calibrated")
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return trained, write_up(trained, Recipe.of(rows, config), masker, now, folder, config)


def test_the_graph_answers_to_the_bit_as_the_curve_behind_the_graph(shipped, split):
    model, values = shipped[0].model, split.test.features.values
    plain, curve = model.model.to_onnx(), model.calibration
    p = values.shape[1]
    said = OnnxScorer(plain, p).predict(values)
    whole = OnnxScorer(calibrated_graph(plain, curve, OUTPUT), p)
    assert whole.predict(values).tobytes() == curve(said).tobytes()
    one_by_one = [whole.predict(values[place : place + 1]) for place in range(200)]
    assert np.concatenate(one_by_one).tobytes() == whole.predict(values)[:200].tobytes()


def test_every_engine_answers_with_the_calibration(shipped, split, tmp_path):
    trained, record = shipped
    features, path = split.test.features, record.artifact.path
    expected = trained.model.predict_proba(features)
    onnx = OnnxScorer(record.artifact.read("model.onnx"), len(features.schema))
    assert onnx.predict(features.values) == pytest.approx(expected, abs=1e-5)
    assert BulkScorer(path / "model.ubj").predict(features.values) == pytest.approx(
        expected, abs=1e-5
    )
    write_pyfunc(tmp_path / "model", record.artifact, "m-1")
    stock = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(features.values)
    assert stock["probability"].to_numpy() == pytest.approx(expected, abs=1e-5)
    native = type(trained.model.model).load(path, features.schema)
    loaded = with_calibration(native, path)
    assert loaded.predict_proba(features).tobytes() == expected.tobytes()


def test_the_threshold_is_one_of_calibrated_probabilities(shipped, split):
    trained, record = shipped
    config = json.loads((record.artifact.path / "config.json").read_bytes())
    assert config["threshold"] == trained.model.threshold
    decided = trained.model.predict_proba(split.test.features) >= trained.model.threshold
    is_one = split.test.labels == 1
    assert trained.metrics["recall"] == pytest.approx(decided[is_one].mean())


def test_an_uncalibrated_model_has_no_curve(trained, record):
    assert Calibration.read_beside(record.artifact.path / "model.ubj") is None
    assert with_calibration(trained.model, record.artifact.path) is trained.model
