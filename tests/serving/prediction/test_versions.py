"""Models of an older version of the features, served after the definitions have changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from feature_store.definitions.engine import FeatureMatrix
from feature_store.definitions.schema import FeatureSchema
from tests.serving.prediction.older_versions import OTHER_RANGE, PRESENT, SMALLER, fill, model_of
from tests.worlds.artifacts import under
from tests.worlds.rows import ENGINE, random_matrix
from tests.worlds.serving import World, running_api


@pytest.fixture
def old_rows() -> FeatureMatrix:
    """Rows that differ from those of the present version, so that one knows which were read."""
    matrix = random_matrix()
    return replace(matrix, values=matrix.values[::-1].copy())


@pytest.mark.parametrize("schema", [SMALLER, OTHER_RANGE])
def test_a_model_of_the_old_version_is_served_from_the_old_rows_after_the_switch(
    world: World, old_rows: FeatureMatrix, schema: FeatureSchema
) -> None:
    arm, scorer = model_of(world, 11, schema)
    old = under(schema, old_rows)
    fill(world, schema, old)
    fill(world, PRESENT, random_matrix())
    world.deploy_arm(arm)

    with running_api(world) as api:
        for user in (1, 7, 300):
            answer = api.post("/predict", json={"user_id": user}).json()
            expected = scorer.predict(old.values[user - 1 : user])[0]
            assert answer["probability"] == pytest.approx(float(expected), abs=1e-7)
            assert answer["degraded"] is False
    receipts = world.stored_predictions()
    assert {receipt["schema_fingerprint"] for receipt in receipts} == {schema.fingerprint}
    assert {len(receipt["features"]) for receipt in receipts} == {len(schema)}


def test_two_versions_are_served_side_by_side_in_one_test(
    world: World, old_rows: FeatureMatrix
) -> None:
    arm, old_scorer = model_of(world, 11, SMALLER)
    _, new_scorer = model_of(world, 2, PRESENT)
    fill(world, SMALLER, under(SMALLER, old_rows))
    fill(world, PRESENT, random_matrix())
    world.deploy_arm(arm)
    world.start_ab_test(2, 0.5)
    scorers = {
        "champion": (old_scorer, under(SMALLER, old_rows)),
        "challenger": (new_scorer, random_matrix()),
    }
    with running_api(world) as api:
        arms = set()
        for user in range(1, 41):
            answer = api.post("/predict", json={"user_id": user}).json()
            scorer, rows = scorers[answer["arm"]]
            expected = float(scorer.predict(rows.values[user - 1 : user])[0])
            assert answer["probability"] == pytest.approx(expected, abs=1e-7)
            arms.add(answer["arm"])
    assert arms == {"champion", "challenger"}


def test_attributes_are_computed_where_the_definitions_still_contain_the_old_ones(
    world: World, old_rows: FeatureMatrix
) -> None:
    arm, scorer = model_of(world, 11, SMALLER)
    old = under(SMALLER, random_matrix())
    fill(world, SMALLER, old)
    world.deploy_arm(arm)
    with running_api(world) as api:
        alone = api.post("/predict", json={"age": 35, "education": "Masters"}).json()
        both = api.post("/predict", json={"user_id": 7, "age": 36}).json()
    row = ENGINE.row({"age": 35, "education": "Masters"})[None, : len(SMALLER)]
    assert alone["probability"] == pytest.approx(float(scorer.predict(row)[0]), abs=1e-7)
    replaced = ENGINE.override(random_matrix().values[6], {"age": 36})[None, : len(SMALLER)]
    assert both["probability"] == pytest.approx(float(scorer.predict(replaced)[0]), abs=1e-7)


def test_attributes_that_cannot_be_computed_any_more_are_refused_with_what_changed(
    world: World, old_rows: FeatureMatrix
) -> None:
    arm, _ = model_of(world, 11, OTHER_RANGE)
    fill(world, OTHER_RANGE, under(OTHER_RANGE, old_rows))
    world.deploy_arm(arm)
    with running_api(world) as api:
        refused = api.post("/predict", json={"user_id": 7, "age": 36})
        served = api.post("/predict", json={"user_id": 7})
    assert refused.status_code == 503
    assert "feature 'age' changed: valid_range 0 to 99 → 0 to 120" in refused.json()["error"]
    assert served.status_code == 200


def test_a_model_of_some_features_is_served_from_the_rows_of_all(world: World) -> None:
    chosen = [feature.name for feature in PRESENT.features if not feature.protected]
    some = PRESENT.select(chosen)
    places = [PRESENT.position(name) for name in chosen]
    arm, scorer = model_of(world, 11, some)
    rows = random_matrix()
    fill(world, PRESENT, rows)
    world.deploy_arm(arm)
    with running_api(world) as api:
        stored = api.post("/predict", json={"user_id": 7}).json()
        alone = api.post("/predict", json={"education": "Masters", "sex": "Male"}).json()
        other = api.post("/predict", json={"education": "Masters", "sex": "Female"}).json()
    expected = scorer.predict(np.ascontiguousarray(rows.values[6:7, places]))[0]
    assert stored["probability"] == pytest.approx(float(expected), abs=1e-7)
    assert stored["degraded"] is False
    row = ENGINE.row({"education": "Masters"})[None, places]
    assert alone["probability"] == pytest.approx(float(scorer.predict(row)[0]), abs=1e-7)
    assert alone["probability"] == other["probability"]
    receipts = world.stored_predictions()
    assert {receipt["schema_fingerprint"] for receipt in receipts} == {some.fingerprint}
    assert {len(receipt["features"]) for receipt in receipts} == {len(some)}
