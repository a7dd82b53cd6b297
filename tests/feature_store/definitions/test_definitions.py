"""The definitions: what the registry promises, and what it refuses."""

from __future__ import annotations

import json
import re

import numpy as np
import psycopg
import pytest

from feature_store import catalogue
from feature_store.definitions.columns import Bands, CodeTable, Membership, NumberTable, log1p
from feature_store.definitions.names import SQL_WORDS
from feature_store.definitions.schema import FeatureDefinition
from feature_store.definitions.view import FeatureView
from feature_store.errors import DefinitionError, UnknownFeature
from feature_store.feature_definitions import EDUCATION, MODEL_VIEW, VIEWS
from infrastructure.embedded import postgres_url
from tests.worlds import accounts


def people() -> FeatureView:
    view = FeatureView("people", entity="person_id")
    view.raw("height", unit="m", valid_range=(0, 3), description="Body height.")
    view.raw("faith", categories=("a", "b"), protected=True, description="Faith.")
    return view


def test_the_view_has_14_raw_and_33_derived_features() -> None:
    assert len(MODEL_VIEW.schema) == 47
    assert len(MODEL_VIEW.raw_features) == 14


def test_every_feature_says_what_it_is() -> None:
    for feature in MODEL_VIEW.definitions.values():
        assert feature.description.endswith(".")
        assert feature.tags == {"team": "ml-platform"}
        assert feature.categories or feature.valid_range


def test_what_is_made_from_a_protected_attribute_is_protected() -> None:
    assert {f.name for f in MODEL_VIEW.raw_features if f.protected} == {
        *("sex", "race", "native_country", "age", "marital_status", "relationship")
    }
    for name in ["age_squared", "is_married", "spouse_hours", "country_region", "age_education"]:
        assert MODEL_VIEW.definitions[name].protected
    assert not MODEL_VIEW.definitions["capital_net"].protected


def test_no_feature_takes_the_label() -> None:
    assert "income" not in MODEL_VIEW.definitions
    assert all("income" not in f.inputs for f in MODEL_VIEW.definitions.values())


def test_the_fingerprint_follows_meaning_and_not_words() -> None:
    def schema_of(**changes: object) -> str:
        parts = {"name": "x", "kind": "number", "description": "One.", "valid_range": (0, 1)}
        view = FeatureView("v", entity="e")
        view._add(FeatureDefinition(**{**parts, **changes}))  # type: ignore[arg-type]
        return view.schema.fingerprint

    assert schema_of() == schema_of(description="Another.") == schema_of(unit="m")
    assert len({schema_of(), schema_of(version=2), schema_of(valid_range=(0, 2))}) == 3


def test_an_unknown_feature_names_the_nearest() -> None:
    with pytest.raises(
        UnknownFeature, match=r"'agee' is not in 'user_features'. Did you mean 'age'"
    ):
        MODEL_VIEW.schema.position("agee")


def test_an_input_that_is_not_defined_above_is_refused() -> None:
    with pytest.raises(DefinitionError, match="takes 'weight', which 'people' does not define"):

        @people().feature(valid_range=(0, 1))
        def bmi(weight: np.ndarray) -> np.ndarray:
            """Body mass index."""
            return weight


def test_a_name_can_be_defined_once() -> None:
    with pytest.raises(DefinitionError, match="'height' is defined twice"):
        people().raw("height", description="Again.")


@pytest.mark.parametrize(
    ("function", "habit"),
    [
        (lambda height: height**2, r"'\*\*'"),
        (lambda height: height @ height, "'@'"),
        (lambda height: height - height.mean(), "'mean'"),
        (lambda height: np.log(height + 1), "'log'"),
        (lambda height: np.sum(height) + 1, "'sum'"),
    ],
)
def test_habits_that_do_not_repeat_to_the_bit_are_refused(function: object, habit: str) -> None:
    with pytest.raises(DefinitionError, match=f"uses {habit}, whose result depends"):
        people().feature(valid_range=(0, 1))(function)  # type: ignore[arg-type]


def test_whole_numbers_beyond_float32_are_refused() -> None:
    with pytest.raises(DefinitionError, match="float32 holds whole numbers exactly up to 16777216"):
        people().raw("id", integer=True, valid_range=(0, 1e9), description="Too large.")


def test_a_table_must_name_every_category() -> None:
    with pytest.raises(DefinitionError, match="says nothing of Doctorate"):
        NumberTable(EDUCATION, dict.fromkeys(EDUCATION.categories[:-1], 1))
    with pytest.raises(DefinitionError, match="'Diploma' is not a category of 'education'"):
        Membership(EDUCATION, "Diploma")


def test_missing_and_unseen_stay_what_they_are_in_every_table() -> None:
    pet = FeatureDefinition("pet", "category", "", categories=("cat", "owl"))
    codes = np.array([0, 1, 2, 3])
    assert CodeTable(pet, {"fur": ["cat"], "wings": ["owl"]})(codes).tolist() == [0, 1, 2, 3]
    assert np.isnan(Membership(pet, "cat")(codes)[:2]).all()
    assert Membership(pet, "cat")(codes)[2:].tolist() == [1, 0]
    assert Bands([1])(np.array([np.nan, np.inf], dtype=np.float32)).tolist() == [0, 0]
    assert np.isnan(log1p(np.array([np.nan], dtype=np.float32))[0])


def test_attributes_that_follow_from_each_other_are_one_group() -> None:
    assert ("education", "education_num") in MODEL_VIEW.attribute_groups
    assert sum(len(group) for group in MODEL_VIEW.attribute_groups) == 14


def test_the_catalogue_and_the_record_of_versions_are_up_to_date() -> None:
    assert catalogue.CATALOGUE.read_text() == catalogue.catalogue(VIEWS)
    assert json.loads(catalogue.RECORD.read_text()) == catalogue.record(VIEWS)


def test_the_catalogue_shows_lookups_and_arrays_once_with_what_people_have_to_know() -> None:
    lines = catalogue.catalogue([accounts.VIEW]).splitlines()
    assert "| `balance` | float64 | EUR |  | `?` | What is there. |" in lines
    assert "| `opened` | timestamp |  |  | `?` | When it was opened. |" in lines
    assert "| 4 | `taste` | 4 |  |  | `?` | What they like. |" in lines
    features = [line for line in lines if re.match(r"\| \d+ \| `(age|city|balance|taste_0)`", line)]
    assert [line.split("|")[2].strip() for line in features] == ["`age`", "`city`"]
    assert "the first 10 words that come" in features[1]
    assert "Derived when absent:" not in lines


def test_code_that_changes_without_its_version_is_noticed() -> None:
    now = catalogue.record(VIEWS)
    edited = {**now, "is_overtime": {"version": 1, "code": "0" * 16}}
    raised = {**now, "is_overtime": {"version": 2, "code": "0" * 16}}
    assert catalogue.changed_without_version(now, edited) == ["is_overtime"]
    assert catalogue.changed_without_version(now, raised) == []


def test_a_table_that_changes_is_a_change_of_the_features_that_read_it() -> None:
    feature = MODEL_VIEW.definitions["has_degree"]
    before = catalogue.code_hash(feature)
    table = feature.function.__globals__["DEGREES"].table  # type: ignore[union-attr]
    table[2] = 1
    try:
        assert catalogue.code_hash(feature) != before
    finally:
        table[2] = 0


@pytest.mark.parametrize("name", ["person_id", "event_timestamp", "row_digest"])
def test_a_feature_cannot_have_the_name_of_a_column_that_every_table_has(name):
    view = FeatureView("people", "person_id")

    with pytest.raises(DefinitionError, match=f"'{name}' of 'people' has the name of a column"):
        view.raw(name, description="Taken.")


def test_more_categories_than_codes_are_refused():
    words = tuple(map(str, range(32_766)))
    FeatureDefinition("city", "category", "", categories=words[:-1])

    with pytest.raises(DefinitionError, match="has 32,766 categories; at most 32,765 can be told"):
        FeatureDefinition("city", "category", "", categories=words)


@pytest.mark.parametrize("name", ["order", "user", "Age", "hours-per-week", "1st", "x" * 64, ""])
def test_a_name_that_postgres_would_read_otherwise_is_refused_where_it_is_defined(name):
    view = FeatureView("people", "person_id")
    with pytest.raises(DefinitionError, match=r"let 'source.rename' say what the source calls it"):
        view.raw(name, description="Something.")
    with pytest.raises(DefinitionError, match=r"source\.rename"):
        FeatureView(name, "person_id")
    with pytest.raises(DefinitionError, match=r"source\.rename"):
        FeatureView("people", name)


def test_the_words_of_sql_are_those_that_postgres_reserves(settings):
    with psycopg.connect(postgres_url(settings)) as connection:
        query = "SELECT word FROM pg_get_keywords() WHERE catcode IN ('R', 'T')"
        assert {word for (word,) in connection.execute(query)} <= SQL_WORDS
