import json

import pytest
from hypothesis import given, strategies as st
from pydantic import ValidationError

from feature_store.definitions.entity import Entity
from feature_store.definitions.view import FeatureView
from feature_store.errors import DefinitionError
from feature_store.feature_definitions import MODEL_VIEW
from serving.bodies.request_schema import explain, request_schema, to_request

SCHEMA = request_schema(MODEL_VIEW)
KNOWN = ["user_id", "unit_id", *[feature.name for feature in MODEL_VIEW.raw_features]]


def request_of(text: str | bytes):
    return to_request(SCHEMA.model_validate_json(text), MODEL_VIEW.key)


def problem_with(**body):
    [problem] = problems_with(json.dumps(body))
    return problem["field"], problem["value"], problem["expected"]


def problems_with(text: str | bytes):
    try:
        SCHEMA.model_validate_json(text)
    except ValidationError as error:
        return list(explain(error.errors(include_url=False, include_context=False), KNOWN))
    return []


def test_a_user_alone_is_a_request():
    request = request_of('{"user_id": 12345}')

    assert (request.user_id, request.unit_id, request.attributes) == (12345, None, {})


def test_names_may_have_hyphens_or_underscores():
    hyphens = request_of('{"hours-per-week": 40, "native-country": "Cuba"}')
    underscores = request_of('{"hours_per_week": 40, "native_country": "Cuba"}')

    assert hyphens == underscores
    assert hyphens.attributes == {"hours_per_week": 40, "native_country": "Cuba"}


def test_null_says_that_an_attribute_is_missing():
    assert request_of('{"user_id": 1, "age": null}').attributes == {"age": None}


def test_a_word_outside_the_vocabulary_is_no_error():
    assert request_of('{"workclass": "Astronaut"}').attributes == {"workclass": "Astronaut"}


@pytest.mark.parametrize("user_id", [-(2**63) + 1, 0, 1, 2**63 - 1])
def test_keys_are_whole_numbers_of_64_bits(user_id):
    assert request_of(json.dumps({"user_id": user_id})).user_id == user_id


@pytest.mark.parametrize(
    ("body", "field", "value", "expected"),
    [
        (
            {"user_id": -(2**63)},
            "user_id",
            str(-(2**63)),
            "greater than or equal to -9223372036854775807",
        ),
        ({"user_id": 2**63}, "user_id", str(2**63), "less than or equal to 9223372036854775807"),
        ({"user_id": "7"}, "user_id", "'7'", "valid integer"),
        ({"user_id": True}, "user_id", "True", "valid integer"),
        ({"user_id": 1.5}, "user_id", "1.5", "valid integer"),
        ({"age": 300}, "age", "300", "less than or equal to 120"),
        ({"age": -1}, "age", "-1", "greater than or equal to 0"),
        ({"age": False}, "age", "False", "valid integer"),
        ({"hours_per_week": "40"}, "hours_per_week", "'40'", "valid integer"),
        ({"hours-per-week": "40"}, "hours-per-week", "'40'", "valid integer"),
        ({"workclass": 5}, "workclass", "5", "valid string"),
        ({"workclass": "x" * 101}, "workclass", "'" + "x" * 99 + "…", "at most 100 characters"),
        ({"age": 3, "unit_id": ""}, "unit_id", "''", "at least 1 character"),
        ({"age": 3, "unit_id": "x" * 129}, "unit_id", "'" + "x" * 99 + "…", "at most 128"),
        ({"age": 3, "unit_id": "a\0b"}, "unit_id", r"'a\x00b'", "should match pattern"),
        ({"agee": 3, "age": 3}, "agee", "3", "did you mean 'age'? known fields: user_id, unit_id"),
        ({"zzz": 3, "age": 3}, "zzz", "3", "known fields: user_id"),
    ],
)
def test_a_bad_field_is_named_with_its_value_and_what_was_expected(body, field, value, expected):
    assert problem_with(**body)[:2] == (field, value)
    assert expected in problem_with(**body)[2]


def test_an_attribute_given_twice_is_refused():
    [problem] = problems_with('{"hours_per_week": 40, "hours-per-week": 41}')

    assert problem["expected"] == "'hours_per_week' once, with hyphens or with underscores"


@pytest.mark.parametrize("body", ["{}", '{"unit_id": "a"}', '{"user_id": null}'])
def test_a_request_must_ask_something(body):
    [problem] = problems_with(body)

    assert problem["field"] == "body"
    assert problem["expected"].startswith("'user_id' or at least one of age, workclass")


def test_all_problems_of_a_body_are_named():
    problems = problems_with('{"age": 300, "fnlwgt": 0, "agee": 1}')

    assert [problem["field"] for problem in problems] == ["age", "fnlwgt", "agee"]


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"null", b"[1]", b'"age"', b"{", b"\xff\xfe", b'{"age": NaN}', b'{"age": 1e999}'),
        *(b'{"workclass": "\\ud800"}', b'{"age": ' + b"9" * 5_000 + b"}", b"[" * 100_000),
        b'{"user_id": Infinity}',
    ],
)
def test_what_is_no_request_is_explained(body):
    [problem] = problems_with(body)

    assert len(problem["value"]) <= 101
    json.dumps(problem).encode()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*KNOWN, "hours-per-week"]) | st.text(), JSON_VALUES))
def test_any_body_is_a_request_or_explained(body):
    text = json.dumps(body)

    for problem in problems_with(text):
        json.dumps(problem).encode()
        assert problem["expected"]


@pytest.mark.parametrize(
    ("body", "is_taken"),
    [
        ({"weight": 1e38}, True),
        ({"weight": -1e39}, False),
        ({"visits": 2**24}, True),
        ({"visits": 2**24 + 1}, False),
    ],
)
def test_a_number_without_a_range_is_one_that_can_be_held_to_the_last_digit(body, is_taken):
    view = FeatureView("people", "person_id")
    view.raw("weight", description="In kilograms.")
    view.raw("visits", integer=True, description="How many.")
    schema = request_schema(view)
    try:
        schema.read_json(json.dumps(body).encode())
    except ValidationError:
        assert not is_taken
    else:
        assert is_taken


CLASHING = (
    *("attributes", "no_attributes", "cleanings", "read", "read_json", "field_age", "age"),
    *("model_config", "model_fields", "schema", "json", "dict", "copy", "construct", "_low_"),
)


def view_of_clashing_names(entity: Entity) -> FeatureView:
    view = FeatureView("odd", entity)
    for name in CLASHING:
        view.raw(name, integer=True, description="As pydantic calls what its models have.")
    return view


@pytest.mark.parametrize("entity", [Entity("validate"), Entity("validate", key="string")])
def test_a_column_may_be_called_as_what_models_of_pydantic_have(entity):
    view = view_of_clashing_names(entity)
    schema = request_schema(view)
    given = {name: place for place, name in enumerate(CLASHING)}
    for body in (given, {name.replace("_", "-"): value for name, value in given.items()}):
        request = to_request(schema.read_json(json.dumps(body).encode()), entity)
        assert (request.user_id, request.attributes) == (None, given)
    key = 7 if entity.is_whole else "N7"
    request = to_request(schema.read({"validate": key, "copy": 1}), entity)
    assert (request.user_id, request.attributes) == (entity.identity(key), {"copy": 1})
    expected = {name.replace("_", "-") for name in CLASHING}
    assert set(schema.model_json_schema()["properties"]) == {*expected, "validate", "unit_id"}
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        schema.read({"field_copy": 1})
    with pytest.raises(ValidationError, match="model_config"):
        schema.read({"model_config": "many"})


def test_a_name_that_the_api_needs_is_refused_where_it_is_defined():
    view = FeatureView("people", "person_id")
    with pytest.raises(DefinitionError, match="'unit_id' of 'people' has the name of a field"):
        view.raw("unit_id", description="A unit.")
    for name in ("unit_id", "prediction_id", "label", "label_time"):
        with pytest.raises(DefinitionError, match=f"key column '{name}' has the name of a field"):
            Entity("person", key={name: "integer", "other": "string"})
