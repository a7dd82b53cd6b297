"""What the documentation says of the paths: an example of each answer, and every refusal."""

import httpx
import pytest

GATE = {"400", "401", "403", "408", "429", "431"}
OF_BODIES = {"413", "415"}
REFUSALS = {
    ("post", "/predict/batch"): {"413", "422", "503"},
    ("post", "/explain"): {"404", "413", "422", "503"},
    ("post", "/feedback"): {"413", "422", "503"},
    ("get", "/predictions/{prediction_id}"): {"404", "422", "503"},
    ("post", "/predictions/{prediction_id}/replay"): {"404", "422", "503"},
    ("post", "/predictions/{prediction_id}/explain"): {"404", "422", "503"},
    ("get", "/model"): {"503"},
    ("get", "/experiment"): {"422", "503"},
    ("get", "/features/{user_id}"): {"404", "422", "503"},
}


@pytest.fixture(scope="module")
def document(api):
    return api.get("/openapi.json").json()


@pytest.mark.parametrize(("verb", "path"), REFUSALS)
def test_every_answer_is_documented_with_an_example(document, verb, path):
    described = document["paths"][path][verb]
    answers = described["responses"]
    success = "202" if path == "/feedback" else "200"

    of_body = OF_BODIES if "requestBody" in described else set()
    assert set(answers) == GATE | of_body | REFUSALS[verb, path] | {success}
    for status, answer in answers.items():
        if status in REFUSALS[verb, path] - {"413"} | {success}:
            assert answer["content"]["application/json"]["example"], status
    assert "Retry-After" in answers["503"]["headers"]
    assert len(described["description"]) > 60


def test_the_examples_of_bodies_are_answered_as_documented(api, document):
    asked = {
        ("post", "/predict/batch"): 200,
        ("post", "/explain"): 404,  # there is no user 12345 here
        ("post", "/feedback"): 202,
    }
    for (verb, path), expected in asked.items():
        content = document["paths"][path][verb]["requestBody"]["content"]["application/json"]
        examples = [each["value"] for each in content.get("examples", {}).values()]
        for example in examples or [content["example"]]:
            answer: httpx.Response = api.request(verb, path, json=example)
            assert answer.status_code == expected, answer.text
