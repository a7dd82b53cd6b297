import json
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from feature_store.feature_definitions import MODEL_VIEW
from tests.worlds.artifacts import scorer
from tests.worlds.rows import ENGINE, missing_in

FIVE = {
    "age": 35,
    "workclass": "Private",
    "education": "Bachelors",
    "occupation": "Tech-support",
    "hours-per-week": 40,
}
FIVE_AS_NAMED = {name.replace("-", "_"): value for name, value in FIVE.items()}


def probability_of(vector: np.ndarray) -> float:
    return float(scorer(1).predict(vector[np.newaxis, :])[0])


def predict(api, **body):
    answer = api.post("/predict", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(api, status: int, **body) -> dict:
    answer = api.post("/predict", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_a_user_is_answered_from_stored_features(api, shared_world):
    answer = predict(api, user_id=42)

    vector = shared_world.matrix.values[41]
    assert answer["probability"] == probability_of(vector)
    assert answer["prediction"] == (">50K" if answer["probability"] >= 0.5 else "<=50K")
    assert answer["model_version"] == "income-xgb-v1"
    assert answer["arm"] == "champion"
    assert answer["missing"] == missing_in(vector)
    assert 0 < answer["latency_ms"] < 1000
    assert UUID(answer["prediction_id"]).version == 7
    assert (answer["degraded"], answer["degraded_reasons"]) == (False, [])


def test_raw_attributes_are_answered_from_computed_features(api):
    answer = predict(api, **FIVE)

    assert answer["probability"] == probability_of(ENGINE.row(FIVE_AS_NAMED))
    given = {*FIVE_AS_NAMED, "education_num"}  # the rank follows from the level
    assert answer["missing"] == [f.name for f in MODEL_VIEW.raw_features if f.name not in given]


def test_attributes_of_the_request_win_over_stored_ones(api, shared_world):
    answer = predict(api, user_id=42, education="Doctorate", age=None)

    changed = {"education": "Doctorate", "age": None}
    vector = ENGINE.override(shared_world.matrix.values[41], changed)
    assert answer["probability"] == probability_of(vector)
    assert "age" in answer["missing"]


def test_a_word_that_nobody_defined_is_named_apart_from_what_is_missing(api):
    answer = predict(api, **FIVE | {"workclass": "Astronaut"})
    assert answer["unseen"] == ["workclass"]
    assert "workclass" not in answer["missing"]
    assert "race" in answer["missing"]


def test_a_value_is_read_as_it_stands_in_files(api):
    tidy = predict(api, **FIVE | {"workclass": "Private", "occupation": None, "sex": "Male"})
    raw = {"workclass": " private", "occupation": " ?", "sex": "MALE ", "age": 35.0}
    untidy = predict(api, **FIVE | raw | {"capital-gain": "?"})
    same = ("probability", "missing", "unseen", "degraded")
    assert [untidy[name] for name in same] == [tidy[name] for name in same]


def test_every_user_is_answered_with_their_own_features(api, shared_world):
    users = list(range(1, 301)) * 3
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda user: predict(api, user_id=user), users))

    expected = scorer(1).predict(shared_world.matrix.values).astype(float).tolist()
    assert [answer["probability"] for answer in answers] == expected * 3
    assert len({answer["prediction_id"] for answer in answers}) == 900


def test_every_answer_has_a_receipt_in_postgresql(api, shared_world):
    named = predict(api, user_id=7, education="Masters")
    unnamed = predict(api, **FIVE)
    of_unit = predict(api, **FIVE, unit_id="household-9")

    receipts = {}
    while not {a["prediction_id"] for a in (named, unnamed, of_unit)} <= receipts.keys():
        receipts = {str(r["prediction_id"]): r for r in shared_world.stored_predictions()}
    first, second, third = (receipts[a["prediction_id"]] for a in (named, unnamed, of_unit))
    vector = ENGINE.override(shared_world.matrix.values[6], {"education": "Masters"})
    assert np.array(first["features"], dtype=np.float32).tobytes() == vector.tobytes()
    assert first["probability"] == named["probability"]
    assert (first["user_id"], first["unit"], first["flags"]) == (7, "7", ["request_attributes"])
    assert first["feature_event_time"].isoformat() == "2026-01-01T00:07:00+00:00"
    assert first["schema_fingerprint"] == MODEL_VIEW.schema.fingerprint
    assert (first["arm"], first["propensity"], first["generation"]) == ("champion", 1.0, 1)
    assert (second["user_id"], second["unit"]) == (None, unnamed["prediction_id"])
    assert second["feature_event_time"] is None
    assert third["unit"] == "household-9"


def test_a_new_user_is_answered_from_the_attributes_given(api, shared_world):
    answer = predict(api, user_id=777_777, **FIVE)

    assert answer["probability"] == predict(api, **FIVE)["probability"]
    assert (answer["degraded"], answer["degraded_reasons"]) == (True, ["features_not_stored"])
    receipt = api.get(f"/predictions/{answer['prediction_id']}").json()
    assert (receipt["user_id"], receipt["unit"]) == (777_777, "777777")
    assert set(receipt["flags"]) == {"request_attributes", "features_not_stored"}
    explained = api.post("/explain", json={"user_id": 777_777, **FIVE}).json()
    assert explained["probability"] == answer["probability"]


def test_a_new_user_of_whom_only_nulls_are_said_is_not_found(api):
    refused(api, 404, user_id=777_777, age=None, sex=None)


def test_an_unknown_user_is_not_found(api):
    answer = refused(api, 404, user_id=999_999)

    assert answer["error"].startswith("The online store has no features for user_id 999999. Send")


def test_a_bad_body_names_field_value_and_expectation(api):
    answer = refused(api, 422, age=300, hours_per_week="40")

    assert answer["fields"] == [
        {
            "field": "age",
            "value": "300",
            "expected": "Input should be less than or equal to 120",
        },
        {
            "field": "hours_per_week",
            "value": "'40'",
            "expected": "Input should be a valid integer",
        },
    ]
    assert answer["error"].startswith("age is 300: Input should be less than or equal to 120; ")


def test_an_unknown_field_is_refused_with_a_hint(api):
    [problem] = refused(api, 422, agee=30, user_id=1)["fields"]

    assert problem["expected"].startswith("did you mean 'age'? known fields: user_id, unit_id, age")


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"{", b"\xff", b'{"age": NaN}', b'{"workclass": "\\ud800"}', b"[" * 60_000],
)
def test_what_is_no_json_object_is_refused(api, content):
    answer = api.post("/predict", content=content, headers={"Content-Type": "application/json"})

    assert answer.status_code == 422
    assert answer.json()["fields"][0]["expected"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=5,
)
LIKELY = st.fixed_dictionaries(
    {},
    optional={
        "user_id": st.integers(-1, 400) | VALUES,
        "unit_id": st.text(max_size=150) | VALUES,
    }
    | {
        feature.name: st.sampled_from([*feature.categories, "?"])
        if feature.categories
        else st.integers(-1, 200) | VALUES
        for feature in MODEL_VIEW.raw_features
    },
)


@settings(max_examples=300)
@given(st.dictionaries(st.text(), VALUES) | LIKELY)
def test_any_body_is_answered_or_refused(api, body):
    headers = {"Content-Type": "application/json"}
    answer = api.post("/predict", content=json.dumps(body), headers=headers)

    assert answer.status_code in {200, 404, 422}
    if answer.status_code == 200:
        assert 0 <= answer.json()["probability"] <= 1


@settings(max_examples=200)
@given(st.binary(max_size=200))
@example(b'{"user_id":1}')
def test_any_bytes_but_a_request_are_refused(api, content):
    answer = api.post("/predict", content=content, headers={"Content-Type": "application/json"})

    assert answer.status_code in ({200, 404, 422} if is_object(content) else {422})


def is_object(content):
    try:
        return isinstance(json.loads(content), dict)
    except ValueError:
        return False


def test_a_body_of_another_type_is_refused_with_the_type_expected(api):
    answer = api.post("/predict", data={"user_id": 1})

    assert answer.status_code == 415
    assert "Content-Type: application/json" in answer.json()["error"]


def test_a_body_that_is_too_large_is_refused(api):
    body = {"workclass": "x" * 100_000}

    assert api.post("/predict", json=body).status_code == 413
    parts = (b"x" * 10_000 for _ in range(10))
    headers = {"Content-Type": "application/json"}
    assert api.post("/predict", content=parts, headers=headers).status_code == 413
    assert api.get("/health").status_code == 200


def test_another_method_is_refused(api):
    answer = api.get("/predict")

    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


def test_it_is_alive_and_ready(api):
    assert api.get("/health").json() == {"status": "alive"}
    ready = api.get("/ready").json()
    assert len(ready.pop("deployment")) == 64
    assert ready.pop("project").startswith("test")
    assert ready == {
        "status": "ready",
        "generation": 1,
        "models": {"champion": "income-xgb-v1"},
        "model_name": "income-predictor",
    }


def test_metrics_tell_of_answers(api):
    predict(api, user_id=1)
    refused(api, 404, user_id=999_999)
    api.get("/no-such-path")

    text = api.get("/metrics").text
    assert 'fti_http_requests_total{path="/predict",status="404"}' in text
    assert 'fti_http_requests_total{path="other",status="404"}' in text
    assert 'fti_prediction_seconds_count{arm="champion",model_version="income-xgb-v1"}' in text
    assert "fti_deployment_generation 1.0" in text
    assert "fti_online_store_connected 1.0" in text
    assert "fti_prediction_log_shipping 1.0" in text


def test_the_documentation_describes_body_answer_and_refusals(api):
    document = api.get("/openapi.json").json()

    post = document["paths"]["/predict"]["post"]
    schemas = document["components"]["schemas"]
    of_the_gate = {"400", "401", "403", "408", "413", "415", "429", "431"}
    assert set(post["responses"]) == {"200", "404", "422", "503"} | of_the_gate
    fields = schemas["PredictionRequest"]["properties"]
    assert fields["hours-per-week"]["anyOf"][0] == {
        "type": "integer",
        "minimum": 0,
        "maximum": 168,
    }
    assert schemas["PredictionRequest"]["additionalProperties"] is False
    assert "probability" in schemas["Answer"]["properties"]
    assert api.get("/docs").status_code == 200
