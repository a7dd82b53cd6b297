"""The document says of bodies what the API does: who is refused by one is refused by the other."""

import pytest
from jsonschema import Draft202012Validator

LABEL = {"prediction_id": "018bcfe5-6800-7c0e-a3b1-2f4b7c6d9e01", "label": 1}
OF_USER = {"user_id": 7, "label_time": "2026-01-01T00:00:00Z", "label": ">50K"}


@pytest.fixture(scope="module")
def document(api):
    return api.get("/openapi.json").json()


def allows(document, path, body):
    content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    return Draft202012Validator({**document, **content["schema"]}).is_valid(body)


@pytest.mark.parametrize(
    ("path", "body", "is_right"),
    [
        ("/predict", {"user_id": 7}, True),
        ("/predict", {"age": 30}, True),
        ("/predict", {"age": None, "unit_id": "a"}, True),
        ("/predict", {"user_id": 7, "age": 30, "unit_id": "a"}, True),
        ("/predict", {}, False),
        ("/predict", {"unit_id": "a"}, False),
        ("/predict", {"user_id": None}, False),
        ("/predict", {"user_id": None, "unit_id": "a"}, False),
        ("/predict", {"user_id": 7, "agee": 30}, False),
        ("/predict", {"user_id": 2**63}, False),
        ("/predict", {"user_id": -(2**63)}, False),
        ("/predict/batch", {"rows": [{"user_id": 7}]}, True),
        ("/predict/batch", {"rows": [{"user_id": 7}], "more": 1}, False),
        ("/predict/batch", {"rows": []}, False),
        ("/feedback", LABEL, True),
        ("/feedback", OF_USER, True),
        ("/feedback", {"labels": [LABEL, OF_USER | {"label": 0}]}, True),
        ("/feedback", LABEL | {"label": "<=50K", "label_time": "2026-01-01T00:00:00Z"}, True),
        ("/feedback", LABEL | {"label": 2}, False),
        ("/feedback", LABEL | {"label": "yes"}, False),
        ("/feedback", LABEL | {"user_id": 7}, False),
        ("/feedback", LABEL | {"prediction_id": "00000000-0000-0000-0000-000000000000"}, False),
        ("/feedback", {"user_id": 7, "label": 1}, False),
        ("/feedback", {"label": 1}, False),
        ("/feedback", {"labels": []}, False),
    ],
)
def test_a_body_is_allowed_and_answered_or_neither(api, document, path, body, is_right):
    assert allows(document, path, body) == is_right
    assert (api.post(path, json=body).status_code != 422) == is_right


def test_bounds_of_integers_are_exact(document):
    user = document["components"]["schemas"]["PredictionRequest"]["properties"]["user_id"]
    assert user["anyOf"][0] == {"type": "integer", "minimum": 1 - 2**63, "maximum": 2**63 - 1}

    def floats(node):
        if isinstance(node, dict):
            bound = [node[name] for name in ("minimum", "maximum") if name in node]
            if node.get("type") == "integer":
                yield from (each for each in bound if isinstance(each, float))
            node = list(node.values())
        for each in node if isinstance(node, list) else ():
            yield from floats(each)

    assert list(floats(document)) == []


def test_an_enum_or_a_format_lies_beside_its_type(document):
    def check(node):
        if isinstance(node, dict):
            assert not ({"enum", "format"} & node.keys() and "anyOf" in node), node
            node = list(node.values())
        for each in node if isinstance(node, list) else ():
            check(each)

    check(document)


def test_operations_have_short_names_and_a_group(document):
    operations = [each for path in document["paths"].values() for each in path.values()]
    names = [each["operationId"] for each in operations]
    assert len(set(names)) == len(names)
    assert {"predict", "predict_batch", "explain", "give_feedback", "health"} <= set(names)
    assert all(len(name) <= 20 and name.isidentifier() for name in names)
    known = {tag["name"] for tag in document["tags"]}
    assert all(len(each["tags"]) == 1 and each["tags"][0] in known for each in operations)


def test_metrics_are_documented_as_what_they_are(api, document):
    answer = document["paths"]["/metrics"]["get"]["responses"]["200"]
    [kind] = answer["content"]
    assert api.get("/metrics").headers["content-type"].partition(";")[0] == kind
