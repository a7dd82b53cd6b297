"""The gates as pure functions: what they let pass, what they stop, how often they err."""

from datetime import UTC, datetime

import numpy as np
import pytest

from configs.settings import load_settings
from configs.training_config import GatesConfig
from feature_store.definitions.engine import FeatureMatrix
from feature_store.errors import UnknownFeature
from models.errors import TrainingRefused
from models.gates import rules as gates
from models.gates.rules import Comparison, Decision, GateResult

CONFIG = GatesConfig(slices=("sex",))
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def comparison(rows, champion, candidate, n=2_000) -> Comparison:
    """A candidate and a champion on the first rows, with true labels of their own making."""
    features = FeatureMatrix(*[part[:n] for part in _parts(rows)], rows.features.schema)
    labels = rows.labels[:n]
    return Comparison("income-xgb-v1", "some rows", features, labels, candidate, champion)


def _parts(rows):
    return rows.features.values, rows.features.keys, rows.features.times


def scores(labels, skill, random) -> np.ndarray:
    """Probabilities near the truth by a skill from 0 (noise) to 1."""
    noise = random.normal(0, 1, len(labels))
    return (1 / (1 + np.exp(-(skill * 4 * (labels - 0.5) + noise)))).astype(np.float32)


def by_gate(results) -> dict[str, GateResult]:
    return {result.gate: result for result in results}


def test_without_a_champion_there_is_nothing_to_compare_with():
    results = list(gates.comparison_gates(None, CONFIG))

    assert [result.gate for result in results] == ["log_loss", "brier", "slices"]
    assert all(result.passed for result in results)
    assert all("nothing to compare with" in result.reason for result in results)


def test_the_champion_itself_would_pass(rows, random):
    same = scores(rows.labels[:2_000], 0.5, random)
    results = by_gate(gates.comparison_gates(comparison(rows, same, same), CONFIG))
    assert all(result.passed for result in results.values())
    assert results["log_loss"].value == 0


def test_a_worse_model_is_stopped_with_the_numbers(rows, random):
    labels = rows.labels[:2_000]
    good, poor = scores(labels, 0.8, random), scores(labels, 0.4, random)
    results = by_gate(gates.comparison_gates(comparison(rows, good, poor), CONFIG))

    assert not results["log_loss"].passed
    assert not results["brier"].passed
    assert "worse than income-xgb-v1" in results["log_loss"].reason
    assert results["log_loss"].value > CONFIG.log_loss_margin
    assert all(r.passed for r in gates.comparison_gates(comparison(rows, poor, good), CONFIG))


def test_a_model_that_is_worse_by_the_margin_passes_one_time_in_twenty(rows, random):
    # Heavy tails as real differences have; the mean is exactly what is not allowed.
    n, trials = 1_900, 1_000
    differences = random.standard_t(4, (trials, n)) * 0.08 + CONFIG.log_loss_margin
    found = [gates.mean_difference(each, CONFIG.confidence) for each in differences]
    assert np.mean([each.high < CONFIG.log_loss_margin for each in found]) < 0.07


def test_two_equal_models_pass_on_as_few_rows_as_two_seeds_share():
    # Measured between two seeds of the real model: a standard error of 0.0027 on 1,859 rows.
    means = np.random.default_rng(0).normal(0, 0.0027, 10_000)
    upper = means + 1.645 * 0.0027
    assert np.mean(upper < CONFIG.log_loss_margin) > 0.9


def test_harm_to_one_slice_vetoes_what_is_better_over_all(rows, random):
    labels = rows.labels[:2_000]
    champion, candidate = scores(labels, 0.5, random), scores(labels, 0.9, random)
    place = rows.features.schema.position("sex")
    feature = rows.features.schema.features[place]
    women = rows.features.values[:2_000, place] == feature.encode("Female")
    candidate[women] = 1 - champion[women]
    results = by_gate(gates.comparison_gates(comparison(rows, champion, candidate), CONFIG))

    assert not results["slice sex=Female"].passed
    assert results["slice sex=Male"].passed
    assert "a veto needs more than +0.02" in results["slice sex=Female"].reason


def test_a_slice_with_few_rows_has_no_veto(rows, random):
    few = CONFIG.model_copy(update={"slice_minimum_rows": 1_900})
    same = scores(rows.labels[:2_000], 0.5, random)
    results = by_gate(gates.comparison_gates(comparison(rows, same, same), few))
    assert not [gate for gate in results if gate.startswith("slice")]


def test_slices_that_nobody_defined_are_refused(rows):
    with pytest.raises(UnknownFeature, match="Did you mean 'sex'"):
        gates.slices_of(rows.features, ["sexx"])
    with pytest.raises(TrainingRefused, match="'age', which is no category but a integer"):
        gates.slices_of(rows.features, ["age"])


def test_the_configured_slices_are_categories_of_the_model(rows):
    names = load_settings().training.gates.slices
    found = gates.slices_of(rows.features, names)
    assert {name.partition("=")[0] for name in found} == set(names)
    assert {"sex", "race", "age_band"} <= set(names)


def test_probabilities_that_do_not_come_true_are_stopped(random):
    truth = random.random(5_000)
    labels = (random.random(5_000) < truth).astype(np.int8)
    assert gates.calibration_gate(labels, truth.astype(np.float32), CONFIG).passed
    boasting = np.clip(truth * 1.3, 0, 1).astype(np.float32)
    stopped = gates.calibration_gate(labels, boasting, CONFIG)
    assert not stopped.passed
    assert stopped.value > 0.03


def test_engines_that_disagree_are_stopped():
    native = np.array([0.2, 0.5], dtype=np.float32)
    assert gates.parity_gate(native, native + np.float32(1e-6), CONFIG).passed
    assert not gates.parity_gate(native, native + np.float32(1e-4), CONFIG).passed
    assert not gates.parity_gate(native, np.array([0.2, np.nan], dtype=np.float32), CONFIG).passed


def test_budgets_are_kept():
    assert gates.latency_gate(1.9, 500, CONFIG).passed
    assert not gates.latency_gate(2.1, 500, CONFIG).passed
    assert gates.size_gate(50_000_000, CONFIG).passed
    assert not gates.size_gate(50_100_000, CONFIG).passed
    assert not gates.schema_gate("abc", "it is not stored").passed


def test_a_decision_is_read_as_it_was_written():
    closed = GateResult("brier", False, "0.1 worse", 0.1, 0.003)
    decision = Decision("d" * 64, "income-xgb-v1", "e" * 64, (closed,), NOW)

    assert Decision.from_dict(decision.to_dict()) == decision
    assert not decision.passed
    assert decision.tags()["gates"] == "failed"
    assert decision.tags()["gates_reason"] == "brier: 0.1 worse"
    assert decision.summary == "0 of 1 passed, against income-xgb-v1"
