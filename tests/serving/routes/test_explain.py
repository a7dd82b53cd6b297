"""``POST /explain``: contributions that sum to the margin, exact for trees."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from feature_store.feature_definitions import MODEL_VIEW
from models.artifact.artifact import write_artifact
from models.xgboost_model import XGBoostModel
from serving.prediction.explainer import SampledExplainer
from tests.worlds.artifacts import model_files, scorer
from tests.worlds.rows import ENGINE, random_matrix
from tests.worlds.serving import running_api

FIVE = {"age": 35, "workclass": "Private", "education": "Bachelors", "hours-per-week": 40}


def explain(api, **body) -> dict:
    answer = api.post("/explain", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def assert_sums(found: dict, tolerance: float = 1e-6) -> None:
    total = found["base"] + sum(each["contribution"] for each in found["contributions"])
    assert total == pytest.approx(found["margin"], abs=1e-9)
    probability = 1 / (1 + math.exp(-found["margin"]))
    assert probability == pytest.approx(found["probability"], abs=tolerance)


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    folder = tmp_path_factory.mktemp("native")
    (folder / "model.ubj").write_bytes(model_files(1)["model.ubj"])
    return XGBoostModel.load(folder, MODEL_VIEW.schema)


def test_contributions_are_those_of_xgboost_and_sum_to_what_is_predicted(api, shared_world, native):
    expected = native.contributions(shared_world.matrix)
    for user in range(1, 40):
        found = explain(api, user_id=user)

        shares = {each["feature"]: each["contribution"] for each in found["contributions"]}
        values = {each["feature"]: each["value"] for each in found["contributions"]}
        ordered = [shares[name] for name in MODEL_VIEW.schema.names]
        assert ordered == pytest.approx(expected[user - 1, :-1], abs=1e-5)
        assert found["base"] == pytest.approx(expected[user - 1, -1], abs=1e-5)
        assert values == MODEL_VIEW.schema.decode(shared_world.matrix.values[user - 1])
        assert_sums(found)
        answer = api.post("/predict", json={"user_id": user}).json()
        assert found["probability"] == answer["probability"]
        assert (found["model_version"], found["arm"]) == ("income-xgb-v1", "champion")
        assert found["method"] == "TreeSHAP, exact"
        sizes = [abs(each["contribution"]) for each in found["contributions"]]
        assert sizes == sorted(sizes, reverse=True)


def test_attributes_are_explained_too(api):
    found = explain(api, **FIVE)

    vector = ENGINE.row({name.replace("-", "_"): value for name, value in FIVE.items()})
    assert found["probability"] == float(scorer(1).predict(vector[np.newaxis, :])[0])
    assert_sums(found)


def test_an_answer_that_was_given_is_explained_as_it_was_given(world):
    world.deploy(1)
    with running_api(world) as api:
        answer = api.post("/predict", json={"user_id": 7, "age": 70}).json()
        now = explain(api, user_id=7, age=70)
        world.deploy(2)
        api.until_generation(2)
        then = api.post(f"/predictions/{answer['prediction_id']}/explain").json()
        other = explain(api, user_id=7, age=70)

    assert then == now
    assert then["probability"] == answer["probability"]
    assert other["model_version"] == "income-xgb-v2"


def test_explaining_leaves_no_receipt(world):
    world.deploy(1)
    with running_api(world) as api:
        explain(api, user_id=7)

    assert world.stored_predictions() == []


def test_a_model_that_is_not_made_of_trees_is_explained_by_asking_it(world):
    files = {name: content for name, content in model_files(3).items() if name != "trees.npz"}
    write_artifact(world.artifacts.folder / "3" / "model", files)
    world.deploy(3)
    with running_api(world) as api:
        found = explain(api, user_id=7)
        assert explain(api, user_id=7) == found

    assert found["method"] == "Shapley values from 16 random orders"
    assert_sums(found, tolerance=1e-5)


def test_sampled_contributions_find_what_matters():
    values = random_matrix(200).values

    class Asks:
        """A model that looks at one feature alone."""

        def predict(self, rows: np.ndarray) -> np.ndarray:
            return np.where(np.nan_to_num(rows[:, 3]) > 0.5, 0.9, 0.2).astype(np.float32)

    explainer = SampledExplainer(Asks(), values[:8])
    for row in values[:20]:
        found = explainer.contributions(row)
        assert np.flatnonzero(np.abs(found) > 1e-9).tolist() in ([], [3])
        answer = float(Asks().predict(row[np.newaxis, :])[0])
        margin = math.log(answer / (1 - answer))
        assert explainer.base + found.sum() == pytest.approx(margin, abs=1e-6)


@pytest.mark.parametrize(
    ("body", "status"),
    [({"user_id": 999_999}, 404), ({"age": 300}, 422), ({}, 422), ({"user_id": "7"}, 422)],
)
def test_what_cannot_be_explained_is_refused_as_by_predict(api, body, status):
    assert api.post("/explain", json=body).status_code == status


def test_more_at_once_than_may_be_wait_their_turn(api):
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda n: api.post("/explain", json={"user_id": n}), range(1, 61)))

    assert {answer.status_code for answer in answers} == {200}
    for answer in answers:
        assert_sums(answer.json())
