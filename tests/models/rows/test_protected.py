"""Training without protected features: what a model then takes, and what its rows are."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from feature_store.feature_definitions import MODEL_VIEW
from models.artifact.artifact import open_artifact
from models.families import new_model
from models.reports.evaluation_report import Extras, compare
from models.reports.write_up import write_up
from models.training.fit import Trained, fit, held_out_metrics, masker_of, recipe_of, split_of


@pytest.fixture(scope="module")
def config(training):
    return training.model_copy(update={"exclude_protected": True})


@pytest.fixture(scope="module")
def blind(config):
    return masker_of(MODEL_VIEW, config)


@pytest.fixture(scope="module")
def without(rows, config, blind):
    split = split_of(rows, blind.schema, config)
    model = fit(new_model(config), split, blind, config)
    return Trained(model, split, held_out_metrics(model, split.test, blind, config))


@pytest.fixture(scope="module")
def written(without, rows, config, blind, masker, training, tmp_path_factory):
    other = fit(new_model(training), without.split, masker, training)
    comparison = compare(without.model, other, without.split.test, blind, config)
    folder = tmp_path_factory.mktemp("blind")
    recipe, now = recipe_of(rows, blind, config), datetime(2026, 1, 1, tzinfo=UTC)
    extras = Extras(whole=comparison)
    return write_up(without, recipe, blind, now, folder, config, extras), comparison


def test_no_feature_tells_of_a_protected_attribute(without, blind):
    names = without.model.schema.names
    assert names == tuple(f.name for f in MODEL_VIEW.schema.features if not f.protected)
    for name in names:
        assert not MODEL_VIEW.definitions[name].protected
    assert {"sex", "age", "age_hours", "is_married"}.isdisjoint(names)
    assert set(without.model.importance()) == set(names)


def test_protected_values_cannot_change_an_answer(without, rows, blind):
    few = rows.features.rows(np.arange(200))
    turned = few.values.copy()
    for place, feature in enumerate(few.schema.features):
        if feature.protected:
            turned[:, place] = turned[::-1, place]
    other = type(few)(turned, few.keys, few.times, few.schema)
    p = [without.model.predict_proba(blind.narrow(each)) for each in (few, other)]
    assert p[0].tobytes() == p[1].tobytes()


def test_masking_is_that_of_the_whole_view_with_protected_attributes_absent(rows, blind, masker):
    complete = rows.features.values[:100]
    groups = [group[0] for group in blind.groups]
    hidden = np.zeros((100, len(groups)), dtype=bool)
    hidden[:, groups.index("occupation")] = True
    narrow = blind.hide(blind.narrow(rows.features.rows(np.arange(100))).values, hidden)
    others = [name for name in groups if name != "occupation"]
    whole = masker.hide(complete, masker.all_but(100, others))
    places = [MODEL_VIEW.schema.position(name) for name in blind.schema.names]
    assert narrow.tobytes() == np.ascontiguousarray(whole[:, places]).tobytes()


def test_no_two_parts_have_rows_that_the_model_cannot_tell_apart(without, blind):
    split = without.split
    seen = [
        {row.tobytes() for row in blind.narrow(part.features).values}
        for part in (split.train, split.validation, split.test)
    ]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]


def test_the_artifact_names_the_version_that_its_features_are_some_of(written, blind):
    record, _ = written
    artifact = open_artifact(record.artifact.path)
    schema = artifact.feature_schema
    assert schema.names == blind.schema.names
    assert schema.fingerprint == blind.schema.fingerprint
    assert schema.definition_fingerprint == MODEL_VIEW.schema.fingerprint
    assert record.tags["schema_fingerprint"] == MODEL_VIEW.schema.fingerprint
    assert record.dataset.n_features == len(schema) == record.params["n_features"]


def test_the_card_shows_what_it_costs_on_the_same_rows(written, without):
    record, comparison = written
    page = (record.files / "model_card.html").read_text()
    assert "What leaving protected features out costs" in page
    assert "It takes no feature that tells of a protected attribute" in page
    for metrics in (without.metrics, comparison.metrics):
        assert f"{metrics['roc_auc']:.4f}" in page
    assert comparison.metrics["roc_auc"] > without.metrics["roc_auc"]
    gain = comparison.gains["log_loss"]
    assert gain.value == pytest.approx(comparison.metrics["log_loss"] - without.metrics["log_loss"])
    assert gain.low < gain.value < gain.high


def test_fairness_is_still_looked_at(written):
    record, _ = written
    assert "demographic_parity_difference_sex" in record.metrics
